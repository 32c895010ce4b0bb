"""A real Kubernetes with the chart in it, for `make e2e`; nothing here runs in `make test`.

KUBECONFIG names a cluster that has the images already; without it a cluster of one node is built and brought up on this
machine (root, Go and Debian's packages; see cluster.sh), the images are built, and all of it is torn down at the end.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import mekiki
from tests.chart.rendering import CHART, HELM
from tests.cluster.line import IMAGE
from tests.cluster.plant import NAMESPACE, RELEASE, SERVICES, Plant
from tests.go_tools import GoTool
from tests.runtime.s3 import VERSITYGW
from tests.waiting import wait_until

HERE = Path(__file__).parent
ADAPTER = GoTool("adapter", "sigs.k8s.io/prometheus-adapter", "cmd/adapter", "0.12.0", "nothing scales on queue wait")

collect_ignore_glob = [] if os.environ.get("MEKIKI_E2E") == "1" else ["test_*.py"]


def need(tool: GoTool) -> Path:
    """Returns a program; fails where it cannot be had: who asks for these tests does not want them skipped."""
    try:
        return tool.find()
    except pytest.skip.Exception as error:
        pytest.fail(str(error))


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
        subprocess.run([HERE / "images.sh", need(VERSITYGW), need(ADAPTER)], check=True, env=environment)
        yield environment
    finally:
        subprocess.run([script, "down"], check=False)


@pytest.fixture(scope="session")
def plant(kubernetes: dict[str, str]) -> Iterator[Plant]:
    """The chart, installed and ready."""
    made = Plant(need(HELM), kubernetes)
    subprocess.run(["kubectl", "create", "namespace", NAMESPACE], env=kubernetes, check=False, capture_output=True)
    made.kubectl("apply", "--filename", "-", stdin=json.dumps(make_sight_config()))
    for name in ("objects", "sight"):
        made.run("kubectl", "apply", "--filename", str(HERE / f"{name}.yaml"))
    for name in ("objects", "sight"):
        made.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s")
    print(f"\ninstalled and ready after {made.install():.0f} s; at rest: {made.tell_pods()}")
    yield made
    made.helm("uninstall", RELEASE, "--wait")
    for name in ("objects", "sight"):
        made.run("kubectl", "delete", "--filename", str(HERE / f"{name}.yaml"))
    made.run("kubectl", "delete", "namespace", NAMESPACE)


def make_sight_config() -> dict:
    """Prometheus' configuration, and the chart's rules for its adapter."""
    rules = yaml.safe_load((CHART / "files" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    data = {
        **{name: (HERE / name).read_text() for name in ("prometheus.yaml", "discover.py")},
        "adapter.yaml": yaml.safe_dump({"rules": rules}),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sight"}, "data": data}


@pytest.fixture(scope="session")
def client(plant: Plant) -> Iterator[mekiki.Client]:
    with plant.client() as made:
        wait_until(lambda: all(made.check_service(name).is_serving for name in SERVICES), 60, "four services")
        yield made


@pytest.fixture(scope="session")
def line_detectors(client: mekiki.Client) -> tuple[str, str]:
    """Two detectors of the lines' image: one that is quick to score, one that takes long."""
    noise = np.random.default_rng(0).integers(0, 9, (12, *IMAGE.shape), dtype=np.uint8)
    items = [mekiki.NewItem(str(number), IMAGE // 2 + each, split="train") for number, each in enumerate(noise)]
    client.codec.create_dataset("line")
    assert all(answer.error is None for answer in client.codec.append_items("line", items))
    for name, side in (("quick", 64), ("slow", 384)):
        engine = mekiki.PatchEngine(input_side=side)
        client.anomaly.train_detector(name, "line", engine=engine, backbone="small").result(600)
        client.anomaly.enroll_items(name, [mekiki.EnrolledItem(item.item_id, item.image) for item in items])
    return "quick", "slow"
