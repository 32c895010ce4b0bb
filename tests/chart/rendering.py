"""The chart, rendered by helm as it would be installed."""

import subprocess
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from tests.conftest import ROOT
from tests.go_tools import GoTool

CHART = ROOT / "deploy" / "chart"
GOLDEN = ROOT / "tests" / "chart" / "golden"
HELM = GoTool("helm", "helm.sh/helm/v3", "cmd/helm", "3.19.2", "the chart cannot be rendered")
KUBERNETES = "1.34"
RELEASE, NAMESPACE = "mekiki", "plant"

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "cpu": {"config": {"device": "cpu"}, "defaults": {"autoscaling": {"metric": "cpu"}}},
    "gpu": {
        "config": {"device": "cuda"},
        "defaults": {"gpu": {"runtimeClassName": "nvidia", "nodeSelector": {"nvidia.com/gpu.present": "true"}}},
        "weights": {"claim": "weights"},
    },
    "tls-auth": {
        "tls": {"enabled": True, "certManager": {"issuer": "plant-ca"}},
        "config": {"auth_audience": "mekiki", "rate_limit_per_s": 200},
        "auth": {"enabled": True, "tokensSecret": "tokens", "jwksSecret": "jwks", "serviceTokenSecret": "own-token"},
        "objectStore": {"endpoint": "https://s3.plant.example:9000", "existingSecret": "bucket"},
        "networkPolicy": {"objectStore": {"peers": [{"ipBlock": {"cidr": "10.20.0.7/32"}}], "ports": [9000]}},
        "monitoring": {"serviceMonitor": True, "alerts": True, "dashboards": True},
    },
    "hpa-off": {"defaults": {"autoscaling": {"enabled": False}, "replicas": 3}},
}
"""What the golden renderings are made of."""


@dataclass(frozen=True)
class Rendering:
    """What helm answered: manifests, or an error."""

    text: str
    error: str
    objects: list[dict[str, Any]] = field(default_factory=list)

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """The one object of that kind and name."""
        (found,) = (one for one in self.objects if one["kind"] == kind and one["metadata"]["name"] == name)
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def job(self, service: str) -> dict[str, Any]:
        """The Job that a service's jobs are made from."""
        volumes = self.find("Deployment", f"{RELEASE}-{service}")["spec"]["template"]["spec"]["volumes"]
        (name,) = (volume["configMap"]["name"] for volume in volumes if volume["name"] == "job")
        return yaml.safe_load(self.find("ConfigMap", name)["data"]["job.yaml"])

    def pods(self) -> dict[str, dict[str, Any]]:
        """Every pod's spec, by its component: the services and their jobs."""
        services = {
            one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]: one for one in self.all("Deployment")
        }
        found = {name: one["spec"]["template"]["spec"] for name, one in services.items()}
        jobs = {name: self.job(name) for name in services if self._has_job(name)}
        return found | {f"{name}-job": job["spec"]["template"]["spec"] for name, job in jobs.items()}

    def _has_job(self, service: str) -> bool:
        volumes = self.find("Deployment", f"{RELEASE}-{service}")["spec"]["template"]["spec"]["volumes"]
        return any(volume["name"] == "job" for volume in volumes)


@cache
def _render(values: str) -> Rendering:
    command = ["template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--values", "-"]
    text, error = run_helm(command, values)
    return Rendering(text, error, [one for one in yaml.safe_load_all(text) if one] if not error else [])


def render(values: dict[str, Any]) -> Rendering:
    """Renders the chart with some values; skips where there is no helm."""
    return _render(yaml.safe_dump(values))


def run_helm(arguments: list[str], stdin: str = "") -> tuple[str, str]:
    """Runs helm; returns what it printed and, where it failed, what it said."""
    done = subprocess.run([HELM.find(), *arguments], input=stdin, capture_output=True, text=True, check=False)
    return done.stdout, (done.stderr or done.stdout) if done.returncode else ""


def environment(pod: dict[str, Any]) -> dict[str, str]:
    """The variables of a pod's only container; those from a Secret as "secret/key"."""
    (container,) = pod["containers"]
    return {one["name"]: one.get("value") or _tell_source(one) for one in container["env"]}


def _tell_source(variable: dict[str, Any]) -> str:
    source = variable.get("valueFrom", {}).get("secretKeyRef", {})
    return f"{source['name']}/{source['key']}" if source else ""
