"""Alerts, dashboard and adapter rule speak of metrics that the services have."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import REGISTRY
from rendering import CHART

from services.__main__ import OPENINGS
from tests.conftest import ROOT

FILES = CHART / "files"
NAME = re.compile(r"\bmekiki_[a-z_]+\b")
LABEL = re.compile(r"(mekiki_[a-z_]+)\{([^}]*)\}")
SCRAPED = {"job", "namespace", "pod", "instance"}
"""Labels that Prometheus itself puts on."""


@pytest.fixture(scope="module")
def metrics():
    """Every series that a service exposes, with its labels."""
    assert OPENINGS  # whose modules have registered theirs
    found = {}
    for metric in {*REGISTRY._collector_to_names}:
        labels = set(getattr(metric, "_labelnames", ()))
        for name in REGISTRY._collector_to_names[metric]:
            found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found


def alert_rules():
    return [rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def expressions():
    for rule in alert_rules():
        yield rule["expr"]
    for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for rule in yaml.safe_load((FILES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]:
        yield rule["seriesQuery"]
        yield rule["metricsQuery"]


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_metric_and_label_exists(expression, metrics):
    assert {name for name in NAME.findall(expression) if name not in metrics} == set()
    for name, selectors in LABEL.findall(expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors))
        assert labels <= metrics[name] | SCRAPED


def test_every_alert_says_what_to_do():
    for rule in alert_rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_metric_of_autoscaling_is_the_one_that_the_adapter_makes():
    (rule,) = yaml.safe_load((FILES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    scaling = (CHART / "templates" / "_scaling.tpl").read_text()
    assert f"metric: {{name: {rule['name']['as']}}}" in scaling


def test_panels_do_not_overlap():
    taken = set()
    for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


def test_alerts_rise_when_they_should():
    """With promtool where it is installed: building it takes longer than all the other tests."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("alerts are not evaluated: promtool (of Prometheus) is not installed")
    tests = ROOT / "tests" / "chart" / "alerts_test.yaml"
    done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
