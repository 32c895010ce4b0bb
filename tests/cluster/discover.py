"""Tells Prometheus the pods that have metrics, through a file: Debian's build of it cannot ask Kubernetes by itself."""

import json
import time
from pathlib import Path

import kubernetes

TARGETS = Path("/tmp/targets.json")


def find_targets(core: kubernetes.client.CoreV1Api) -> list[dict]:
    found = []
    for pod in core.list_namespaced_pod("mekiki", field_selector="status.phase=Running").items:
        ports = [port for container in pod.spec.containers for port in container.ports or ()]
        labels = {"namespace": "mekiki", "pod": pod.metadata.name}
        labels["service"] = (pod.metadata.labels or {}).get("app.kubernetes.io/component", "")
        found += [
            {"targets": [f"{pod.status.pod_ip}:{port.container_port}"], "labels": labels}
            for port in ports
            if port.name == "metrics"
        ]
    return found


if __name__ == "__main__":
    kubernetes.config.load_incluster_config()
    while True:
        written = TARGETS.with_suffix(".new")
        written.write_text(json.dumps(find_targets(kubernetes.client.CoreV1Api())))
        written.rename(TARGETS)
        time.sleep(2)
