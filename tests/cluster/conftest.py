"""A real Kubernetes with the chart in it, for `make e2e`; nothing here runs in `make test`.

KUBECONFIG names a cluster that has the images already; without it a cluster of one node is built and brought up on this
machine (root, Go and Debian's packages; see cluster.sh), the images are built, and all of it is torn down at the end.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mekiki
from tests.chart.rendering import HELM
from tests.conftest import ROOT
from tests.runtime.s3 import VERSITYGW

HERE = Path(__file__).parent
NAMESPACE, RELEASE = "mekiki", "plant"
SERVICES = ("codec", "saliency", "boxfit", "anomaly")

collect_ignore_glob = [] if os.environ.get("MEKIKI_E2E") == "1" else ["test_*.py"]


@dataclass(frozen=True)
class Cluster:
    """A cluster with Mekiki in it."""

    helm: Path
    environment: dict[str, str]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = ["kubectl", "--namespace", NAMESPACE, *arguments]
        return self._run(command, stdin)

    def run_helm(self, *arguments: str) -> str:
        return self._run([str(self.helm), "--namespace", NAMESPACE, *arguments])

    def pods(self, service: str) -> list[dict]:
        selector = f"app.kubernetes.io/component={service}"
        return json.loads(self.kubectl("get", "pods", "--selector", selector, "--output", "json"))["items"]

    def jobs(self) -> list[dict]:
        return json.loads(self.kubectl("get", "jobs", "--output", "json"))["items"]

    def address(self, service: str) -> str:
        cluster_ip = "jsonpath={.spec.clusterIP}"
        return f"{self.kubectl('get', 'service', f'{RELEASE}-{service}', '--output', cluster_ip)}:8080"

    def client(self) -> mekiki.Client:
        addresses = {service: self.address(service) for service in SERVICES}
        return mekiki.Client(addresses["anomaly"], addresses=addresses)

    def _run(self, command: list[str], stdin: str | None = None) -> str:
        done = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT
        )
        if done.returncode != 0:
            raise AssertionError(f"{shlex.join(command)}: {done.stderr}")
        return done.stdout


def wait_until(true: Callable[[], object], seconds: float, what: str) -> float:
    """Returns after how many seconds it was true."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)
    return time.monotonic() - begun


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[dict[str, str]]:
    """Environment of kubectl and docker for a cluster that has the images."""
    if os.environ.get("KUBECONFIG"):
        yield dict(os.environ)
        return
    script = HERE / "cluster.sh"
    subprocess.run([script, "build"], check=True)
    exports = subprocess.run([script, "up"], check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    try:
        variables = dict(word.split("=", 1) for word in shlex.split(exports)[1:])
        environment = {**os.environ, **variables, "PATH": variables["PATH"].replace("$PATH", os.environ["PATH"])}
        subprocess.run([HERE / "images.sh", VERSITYGW.find()], check=True, env=environment)
        yield environment
    finally:
        subprocess.run([script, "down"], check=False)


@pytest.fixture(scope="session")
def cluster(kubernetes: dict[str, str]) -> Iterator[Cluster]:
    """The chart, installed and ready."""
    made = Cluster(HELM.find(), kubernetes)
    subprocess.run(["kubectl", "create", "namespace", NAMESPACE], env=kubernetes, check=False, capture_output=True)
    made.kubectl("apply", "--filename", str(HERE / "objects.yaml"))
    made.kubectl("rollout", "status", "deployment/objects", "--timeout=120s")
    begun = time.monotonic()
    made.run_helm("install", RELEASE, "deploy/chart", "--values", str(HERE / "values.yaml"), "--wait", "--timeout=10m")
    print(f"\ninstalled and ready after {time.monotonic() - begun:.0f} s")
    yield made
    made.run_helm("uninstall", RELEASE, "--wait")
    made.kubectl("delete", "--filename", str(HERE / "objects.yaml"))
