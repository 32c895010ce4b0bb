"""Devices as the scheduler sees them: an extended resource that the node is made to advertise; nothing runs on one."""

import json

import pytest

from tests.waiting import wait_until

GPU = "nvidia.com/gpu"
pytestmark = pytest.mark.timeout(900)


def advertise(plant, count):
    (node,) = plant.find_all("nodes")
    path = f"/status/capacity/{GPU.replace('/', '~1')}"
    change = {"op": "add", "path": path, "value": str(count)} if count else {"op": "remove", "path": path}
    name = node["metadata"]["name"]
    plant.kubectl("patch", "node", name, "--subresource=status", "--type=json", "--patch", json.dumps([change]))


@pytest.fixture
def devices(plant, line_detectors):
    """Pods and jobs that ask for devices as on cuda, and compute on the processor: there is none behind the name."""
    advertise(plant, 3)
    plant.install("config.device=cuda", "services.anomaly.replicas=1", wait=False)
    for name in ("anomaly", "saliency"):
        compute_on_the_processor(plant, f"plant-{name}")
        plant.kubectl("rollout", "status", f"deployment/plant-{name}", "--timeout=180s")
    yield
    plant.install()
    advertise(plant, 0)


def compute_on_the_processor(plant, deployment):
    """Whatever its pods and jobs ask for."""
    found = json.loads(plant.kubectl("get", f"deployment/{deployment}", "--output=json"))
    pod = found["spec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "job")
    job = json.loads(plant.kubectl("get", f"configmap/{volume['configMap']['name']}", "--output=json"))
    data = {"job.yaml": job["data"]["job.yaml"].replace('value: "cuda"', 'value: "cpu"')}
    changed = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{deployment}-job-on-cpu"}, "data": data}
    plant.kubectl("apply", "--filename", "-", stdin=json.dumps(changed))
    volume["configMap"]["name"] = f"{deployment}-job-on-cpu"
    for variable in pod["containers"][0]["env"]:
        if variable["name"] == "MEKIKI_DEVICE":
            variable["value"] = "cpu"
    plant.kubectl("replace", "--filename", "-", stdin=json.dumps(found))


def asked(pod):
    """Devices that a pod asks for, and whether the scheduler gave them."""
    (container,) = pod["spec"]["containers"]
    scheduled = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}.get("PodScheduled")
    return container["resources"].get("limits", {}).get(GPU), scheduled


def asked_by_job(plant, client):
    """What a training's pod asked for; the training must have succeeded."""
    operation = client.anomaly.train_detector("somewhere", "line", backbone="small")
    operation.result(300)
    pods = plant.find_all("pods", f"mekiki.io/operation={operation.name.rpartition('/')[2].lower()}")
    return [asked(pod)[0] for pod in pods]


def test_pods_and_jobs_ask_for_devices_and_get_them(plant, client, devices):
    assert {name: [asked(pod) for pod in plant.pods(name)] for name in ("codec", "boxfit", "saliency", "anomaly")} == {
        "codec": [(None, "True")],
        "boxfit": [(None, "True")],
        "saliency": [("1", "True")],
        "anomaly": [("1", "True")],
    }
    assert asked_by_job(plant, client) == ["1"]


def test_who_comes_when_all_devices_are_taken_waits(plant, client, devices):
    plant.kubectl("scale", "deployment/plant-anomaly", "--replicas=3")
    wait_until(lambda: ("1", "False") in [asked(pod) for pod in plant.pods("anomaly")], 60, "a pod that waits")
    (waiting,) = (pod for pod in plant.pods("anomaly") if asked(pod) == ("1", "False"))
    (condition,) = (each for each in waiting["status"]["conditions"] if each["type"] == "PodScheduled")
    assert f"Insufficient {GPU}" in condition["message"]
    plant.kubectl("scale", "deployment/plant-anomaly", "--replicas=1")


def test_on_the_processor_nobody_asks_for_a_device(plant, client, line_detectors):
    def nobody_asks():
        """Nor does one that is about to go: until it is told, it starts jobs as it was made to."""
        selectors = [f"app.kubernetes.io/component={name}" for name in ("saliency", "anomaly")]
        return {asked(pod) for one in selectors for pod in plant.find_all("pods", one)} == {(None, "True")}

    wait_until(nobody_asks, 120, "pods without devices, and no others")
    assert asked_by_job(plant, client) == [None]
