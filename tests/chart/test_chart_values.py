"""values.yaml, what is made from it, and the settings in the code: three tellings of one thing."""

import importlib.util
import json
import re

import pytest
import yaml
from rendering import CHART

from services.__main__ import OPENINGS
from services.runtime.config import Settings
from tests.conftest import ROOT

THE_CHARTS_OWN = {
    "host": "0.0.0.0",
    "metrics_port": 9090,
    "store_url": "s3://mekiki",
    "device": "cuda",
    "runner": "kubernetes",
    "health_port": 8081,
    "max_connection_age_s": 20.0,
}
"""Settings that are other in a cluster than on one machine. Empty ones the chart or the service fills in."""


@pytest.fixture(scope="module")
def describe_values():
    spec = importlib.util.spec_from_file_location("describe_values", ROOT / "deploy" / "describe_values.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def values():
    return yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def schema():
    return json.loads((CHART / "values.schema.json").read_text())


def all_keys(keys):
    for key in keys:
        yield key
        yield from all_keys(key.keys)


def test_the_schema_and_the_table_are_those_of_the_values(describe_values, tmp_path):
    (tmp_path / "values.yaml").write_text((CHART / "values.yaml").read_text())
    describe_values.main(tmp_path)
    for name in ("values.schema.json", "README.md"):
        assert (tmp_path / name).read_text() == (CHART / name).read_text(), f"{name} is old: make chart"


def test_every_key_says_what_it_means(describe_values):
    keys = describe_values.read_keys((CHART / "values.yaml").read_text())
    assert [".".join(key.path) for key in all_keys(keys) if not key.meaning] == []


def test_nothing_is_taken_that_the_chart_does_not_know(schema):
    open_maps = []

    def walk(node, path):
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties") is not False:
                open_maps.append(path)
            for name, inner in node.items():
                walk(inner, f"{path}/{name}")

    walk(schema, "")
    assert open_maps == []


@pytest.mark.parametrize("opening", OPENINGS, ids=lambda opening: opening.name)
def test_every_setting_of_a_service_is_a_key_of_the_chart_and_no_other(opening, values, schema):
    known = schema["properties"]["services"]["properties"][opening.name]["properties"]["config"]["properties"]
    assert set(known) == set(opening.settings_class.model_fields)
    assert set(values["config"]) == set(Settings.model_fields)
    own = set(opening.settings_class.model_fields) - set(Settings.model_fields)
    assert set(values["services"][opening.name]["config"]) == own


@pytest.mark.parametrize("opening", OPENINGS, ids=lambda opening: opening.name)
def test_a_key_has_its_settings_default_unless_the_chart_has_its_own(opening, values):
    said = values["config"] | values["services"][opening.name]["config"]
    wrong = {}
    for name, field in opening.settings_class.model_fields.items():
        wanted = THE_CHARTS_OWN.get(name, field.default)
        if said[name] != wanted and said[name] != "":
            wrong[name] = (said[name], wanted)
    assert wrong == {}


@pytest.mark.parametrize("opening", OPENINGS, ids=lambda opening: opening.name)
def test_a_key_has_its_settings_bounds(opening, schema):
    service = schema["properties"]["services"]["properties"][opening.name]["properties"]["config"]["properties"]
    fields = opening.settings_class.model_json_schema(by_alias=False)["properties"]
    bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    wrong = {}
    for name, field in fields.items():
        key = service[name]
        key = schema["properties"]["config"]["properties"][name] if "$ref" in key else key
        told = {bound: key[bound] for bound in bounds if bound in key}
        wanted = {bound: field[bound] for bound in bounds if bound in field}
        # In a pod a port is a known one, above those that only root may listen on.
        if told != wanted and name not in ("port", "metrics_port", "health_port"):
            wrong[name] = (told, wanted)
    assert wrong == {}


def test_the_makefile_makes_them():
    assert re.search(r"^chart: .*\n.*deploy/describe_values.py$", (ROOT / "Makefile").read_text(), re.MULTILINE)
