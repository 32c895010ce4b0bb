"""A cluster with Mekiki in it, as the tests see it: kubectl, helm, pods, clients, and lines that call from inside."""

import json
import os
import shlex
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

import mekiki
from tests.conftest import ROOT
from tests.waiting import wait_until

HERE = Path(__file__).parent
IS_LONG = os.environ.get("MEKIKI_E2E_LONG") == "1"
"""Whether tests take as long as their figures need, or only so long that they could fail."""
NAMESPACE, RELEASE = "mekiki", "plant"
SERVICES = ("codec", "saliency", "boxfit", "anomaly")


@dataclass(frozen=True)
class Plant:
    """A cluster with Mekiki in it."""

    helm_program: Path
    environment: dict[str, str]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.run("kubectl", "--namespace", NAMESPACE, *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        return self.run(str(self.helm_program), "--namespace", NAMESPACE, *arguments)

    def install(self, *values: str, wait: bool = True) -> float:
        """Installs or changes the chart, with `--set` of each value; returns after how many seconds all was ready."""
        begun = time.monotonic()
        settings = [word for value in values for word in ("--set", value)]
        chart = ["upgrade", "--install", RELEASE, "deploy/chart", "--values", str(HERE / "values.yaml")]
        self.helm(*chart, *settings, *(("--wait", "--timeout=10m") if wait else ()))
        return time.monotonic() - begun

    def find_all(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        return json.loads(self.kubectl("get", kind, "--selector", selector, "--output", "json"))["items"]

    def pods(self, service: str) -> list[dict[str, Any]]:
        """The service's pods, without those that are about to go."""
        found = self.find_all("pods", f"app.kubernetes.io/component={service}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, service: str) -> list[dict[str, Any]]:
        def is_ready(pod: dict[str, Any]) -> bool:
            conditions = pod["status"].get("conditions", ())
            return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

        return [pod for pod in self.pods(service) if is_ready(pod)]

    def jobs(self, service: str = "") -> list[dict[str, Any]]:
        return self.find_all("jobs", f"mekiki.io/service={service}" if service else "")

    def evict(self, pod: str) -> bool:
        """Asks for an eviction, as a node's drain does; False where the disruption budget refuses."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
        try:
            path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
            self.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
        except AssertionError as error:
            if "disruption budget" in str(error):
                return False
            raise
        return True

    def address(self, service: str) -> str:
        cluster_ip = "jsonpath={.spec.clusterIP}"
        return f"{self.kubectl('get', 'service', f'{RELEASE}-{service}', '--output', cluster_ip)}:8080"

    def client(self) -> mekiki.Client:
        addresses = {service: self.address(service) for service in SERVICES}
        return mekiki.Client(addresses["anomaly"], addresses=addresses)

    def metric(self, pod: dict[str, Any], name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 where there are none."""
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:9090/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def tell_pods(self) -> str:
        """Each service's slowest start, from its container's to ready, and its largest resident memory."""
        return "; ".join(f"{service} {self._tell_pods_of(service)}" for service in SERVICES)

    def _tell_pods_of(self, service: str) -> str:
        pods = self.ready_pods(service)
        starts = [_ready_at(pod) - _started_at(pod) for pod in pods]
        memories = [self.metric(pod, "process_resident_memory_bytes") / 2**20 for pod in pods]
        return f"{max(starts).total_seconds():.0f} s, {max(memories):.0f} MiB"

    def start_line(self, name: str, **wish: Any) -> "Line":
        """Starts a line that calls `anomaly` from a pod; its wish is one of line.py."""
        wish = {"address": f"{RELEASE}-anomaly-headless:8080", **wish}
        self.start_script(name, HERE / "line.py", wish)
        return Line(self, name)

    def start_script(self, name: str, script: Path, wish: Any, secret: str = "") -> None:
        """Starts a pod that runs a script with the SDK, its wish as JSON, and perhaps a Secret at /secret."""
        config = self.kubectl("create", "configmap", name, f"--from-file={script}", "--dry-run=client", "--output=yaml")
        self.kubectl("apply", "--filename", "-", stdin=config)
        self.kubectl("delete", "pod", name, "--ignore-not-found", "--now")
        volumes: dict[str, dict[str, Any]] = {"script": {"configMap": {"name": name}}}
        if secret:
            volumes["secret"] = {"secret": {"secretName": secret}}
        container = {
            "name": "script",
            "image": "mekiki-boxfit:0.1.0",
            "args": [f"/script/{script.name}", json.dumps(wish)],
            # Or what competes for the same two processors would be measured: a line's computer is its own.
            "resources": {"requests": {"cpu": "500m"}},
            "volumeMounts": [{"name": volume, "mountPath": f"/{volume}"} for volume in volumes],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"mekiki.io/client": "true"}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [container],
                "volumes": [{"name": volume, **source} for volume, source in volumes.items()],
            },
        }
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(pod))

    def run(self, *command: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT
        )
        if done.returncode != 0:
            raise AssertionError(f"{shlex.join(command)}: {done.stderr}")
        return done.stdout


def _started_at(pod: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])


def _ready_at(pod: dict[str, Any]) -> datetime:
    (ready,) = (each for each in pod["status"]["conditions"] if each["type"] == "Ready")
    return datetime.fromisoformat(ready["lastTransitionTime"])


@dataclass(frozen=True)
class Line:
    """A line that runs, or has ended."""

    plant: Plant
    name: str

    def told(self) -> dict[str, Any]:
        """What it said last; {} where it has not said anything yet."""
        try:
            lines = self.plant.kubectl("logs", self.name, "--tail=1").splitlines()
        except AssertionError:  # its container is being made
            return {}
        return json.loads(lines[-1]) if lines else {}

    def count(self) -> int:
        return sum(times["count"] for times in self.told().get("times", {}).values())

    def has_ended(self) -> bool:
        return bool(self.told().get("ended"))

    def wait(self, seconds: float) -> dict[str, Any]:
        wait_until(self.has_ended, seconds, f"the end of {self.name}")
        return self.told()
