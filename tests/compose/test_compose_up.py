"""`make up`, the demonstration against what it brought up, `make down`: with docker, and only when it is asked for."""

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.runtime.s3 import VERSITYGW
from tests.waiting import wait_until

PROJECT = "mekiki-test"
SERVICES = ("anomaly", "codec", "saliency", "boxfit")

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("MEKIKI_COMPOSE") != "1",
        reason="containers are not started: they take ports 8080-8083 and 9090, and minutes (MEKIKI_COMPOSE=1)",
    ),
    pytest.mark.xdist_group("compose"),
    pytest.mark.timeout(1200),
]


@dataclass(frozen=True)
class Composed:
    """Mekiki in containers of this machine."""

    environment: dict[str, str]

    def make(self, *arguments: str) -> str:
        return self.run("make", "--no-print-directory", *arguments)

    def mekiki(self, *arguments: object) -> str:
        return self.run(sys.executable, "-m", "mekiki.cli", *map(str, arguments))

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=900
        )
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def inspect(self, service: str) -> dict:
        label = f"label=com.docker.compose.service={service}"
        project = f"label=com.docker.compose.project={PROJECT}"
        found = self.run("docker", "ps", "--all", "--quiet", "--filter", label, "--filter", project).split()
        (container,) = json.loads(self.run("docker", "inspect", *found))
        return container

    def python(self, service: str, code: str) -> str:
        return self.run("docker", "exec", self.inspect(service)["Id"], "/usr/bin/python3", "-c", code).strip()


def ask_prometheus(query: str) -> dict[str, float]:
    """The value of a query, by job."""
    url = f"http://127.0.0.1:9090/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        series = json.load(answer)["data"]["result"]
    return {one["metric"].get("job", ""): float(one["value"][1]) for one in series}


def find_images(environment: dict[str, str]) -> dict[str, str]:
    """Images that cannot be pulled here have stand-ins; those that the environment names are taken."""
    if "OBJECTS_IMAGE" in environment:
        return {}
    made = subprocess.run(
        [Path(__file__).parent / "stand_ins.sh", VERSITYGW.find()], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.fail(f"no stand-ins for the images of others: {made.stderr}")
    return dict(line.split("=", 1) for line in made.stdout.splitlines())


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MEKIKI_")}
    own = {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_PROFILES": "",  # Grafana is in no package of Debian's
        "MEKIKI_WEIGHTS_HUB": "false",
        "MEKIKI_CONTEXT_FILE": str(tmp_path_factory.mktemp("context") / "contexts.json"),
    }
    made = Composed({**inherited, **find_images(inherited), **own})
    try:
        told = made.make("up").splitlines()
        (command,) = (line.split() for line in told if "context set" in line)
        made.mekiki(*command[1:])
        yield made
    finally:
        made.make("down", "WIPE=1")


@pytest.fixture(scope="module")
def report(composed, tmp_path_factory):
    """What the demonstration says of itself."""
    out = tmp_path_factory.mktemp("demo")
    return json.loads(composed.mekiki("demo", "--running", "--count", 40, "--out", out, "--json"))


def test_make_up_returns_when_all_four_services_serve_where_it_says(composed):
    told = [json.loads(line) for line in composed.mekiki("status", "--json").splitlines()]
    assert {each["service"]: each["state"] for each in told} == dict.fromkeys(SERVICES, "serving")
    assert len({each["address"] for each in told}) == 4


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_nobody_and_cannot_change_its_files(composed, service):
    assert composed.python(service, "import os; print(os.getuid())") == "65532"
    refused = "try: open('/app/x', 'w')\nexcept OSError as error: print(error.errno)"
    assert composed.python(service, refused) == "30"
    assert (
        composed.python(service, "print(open('/proc/self/status').read().count('CapEff:\\t0000000000000000'))") == "1"
    )


def test_the_object_store_reaches_nobody(composed):
    networks = composed.inspect("objects")["NetworkSettings"]["Networks"]
    assert list(networks) == [f"{PROJECT}_store"]
    assert composed.inspect("objects")["NetworkSettings"]["Ports"] == {}


def test_the_demonstration_runs_against_it(report):
    figures = {figure["figure"]: figure["value"] for figure in report["figures"]}
    assert report["boxes_skipped"] == ""
    assert figures["image_auroc"] > 0.5
    assert figures["boxes_drawn"] > 0
    assert set(report["versions"]) == {"Mekiki"}  # of the machine that computed nothing is said
    assert Path(report["report"]).stat().st_size > 10_000


def test_prometheus_scrapes_all_four_and_knows_the_alerts(composed, report):
    wait_until(lambda: ask_prometheus("up") == dict.fromkeys(SERVICES, 1), 60, "four targets up")
    scored = 'sum by (job) (mekiki_calls_total{rpc=~".*/ScoreImage",code="OK"})'
    wait_until(lambda: ask_prometheus(scored).get("anomaly", 0) > 0, 60, "the calls of the demonstration")
    with urllib.request.urlopen("http://127.0.0.1:9090/api/v1/rules", timeout=10) as answer:
        groups = json.load(answer)["data"]["groups"]
    assert {rule["name"] for group in groups for rule in group["rules"]} >= {"MekikiDown", "MekikiDataLoss"}


def test_what_was_made_outlives_the_containers(composed, report):
    before = composed.mekiki("status", "--json")
    composed.make("down")
    composed.make("up")
    assert composed.mekiki("status", "--json") == before
    assert json.loads(before.splitlines()[0])["holds"]
