"""The main job on a real cluster: long work runs as Jobs, and neither a lost pod nor a restart loses anything."""

import pytest

import mekiki
from mekiki import errors
from tests.cluster.plant import SERVICES
from tests.small_parts import as_enrolled, as_items, render_small
from tests.waiting import wait_until

NORMALS = mekiki.ItemFilter("parts", splits=("train",), form=mekiki.ItemForm.PREPARED)

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return render_small(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def detector(client, parts):
    client.codec.create_dataset("parts")
    assert all(answer.error is None for answer in client.codec.append_items("parts", as_items(parts)))
    encoded = client.codec.encode_dataset("parts", options=mekiki.EncodingOptions(background="contrast")).result(600)
    trained = client.anomaly.train_detector("parts", NORMALS, backbone="small").result(900)
    client.anomaly.enroll_items("parts", as_enrolled(client, NORMALS))
    assert encoded.encoding.encoding_id == trained.encoding_id
    return trained


def test_no_pod_has_more_rights_than_it_needs(plant, client):
    for service in SERVICES:
        for pod in plant.pods(service):
            inside = pod["spec"]["containers"][0]["securityContext"]
            assert inside["readOnlyRootFilesystem"] is True
            assert inside["capabilities"] == {"drop": ["ALL"]}
    name = plant.pods("codec")[0]["metadata"]["name"]
    assert plant.kubectl("exec", name, "--", "python3", "-c", "import os; print(os.getuid())").strip() == "65532"


def test_long_work_runs_as_jobs(plant, client, detector):
    def ended():
        return {
            (job["metadata"]["labels"]["mekiki.io/service"], job["status"].get("succeeded")) for job in plant.jobs()
        }

    wait_until(lambda: ended() >= {("codec", 1), ("anomaly", 1)}, 60, "a Job that succeeded for each operation")


def test_a_killed_workers_operation_goes_on_with_the_next_attempt(plant, client, detector):
    operation = client.saliency.train_classifier(
        "kinds", mekiki.ItemFilter("parts", labels=("good", "bent")), backbone="small", epochs=60, input_size=64
    )
    found = []

    def runs():
        pods = plant.kubectl("get", "pods", "--selector", "mekiki.io/service=saliency", "--output", "name").split()
        found[:] = pods
        return pods and operation.progress().phase.startswith("training")

    wait_until(runs, 180, "a training pod")
    plant.kubectl("delete", found[0], "--grace-period=0", "--force")
    assert operation.result(900).name == "kinds"
    assert len(plant.jobs("saliency")) == 2


def test_trials_run_side_by_side_and_that_of_a_killed_pod_is_done_again(plant, client, detector):
    learned = mekiki.Configuration("learned", NORMALS, mekiki.MetricEngine(epochs=60, input_size=64), "small")
    tests = mekiki.ItemFilter("parts", splits=("test",))
    operation = client.anomaly.run_trials([learned], tests, trial_count=3)
    selector = f"mekiki.io/operation={operation.name.rpartition('/')[2].lower()}"

    def running():
        pods = plant.find_all("pods", selector)
        return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]

    wait_until(lambda: len(running()) == 3, 180, "three pods at once")
    plant.kubectl("delete", f"pod/{running()[0]}", "--grace-period=0", "--force")
    (series,) = operation.result(900)
    assert [trial.seed for trial in series.trials] == [0, 1, 2]
    (job,) = plant.find_all("jobs", selector)
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 3)
    wait_until(lambda: plant.find_all("jobs", selector)[0]["status"].get("succeeded") == 3, 60, "all parts")


def test_a_cancelled_job_ends(plant, client, detector):
    operation = client.saliency.train_classifier(
        "never", mekiki.ItemFilter("parts", labels=("good", "bent")), backbone="small", epochs=400, input_size=224
    )
    wait_until(lambda: operation.progress().phase.startswith("training"), 180, "a training")
    operation.cancel()
    with pytest.raises(errors.Cancelled):
        operation.result(120)
    wait_until(lambda: not any(job["status"].get("active") for job in plant.jobs()), 60, "no Job is left running")
