"""The main job on a real cluster: long work runs as Jobs, and neither a lost pod nor a restart loses anything."""

import threading
import time

import cv2
import pytest

import mekiki
from mekiki import errors
from tests.cluster.conftest import RELEASE, SERVICES, wait_until
from tests.small_parts import as_enrolled, as_items, render_small

NORMALS = mekiki.ItemFilter("parts", splits=("train",), form=mekiki.ItemForm.PREPARED)

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def client(cluster):
    with cluster.client() as made:
        wait_until(lambda: all(made.check_service(name).is_serving for name in SERVICES), 60, "four services")
        yield made


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return render_small(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def detector(cluster, client, parts):
    client.codec.create_dataset("parts")
    assert all(answer.error is None for answer in client.codec.append_items("parts", as_items(parts)))
    encoded = client.codec.encode_dataset("parts", options=mekiki.EncodingOptions(background="contrast")).result(600)
    trained = client.anomaly.train_detector("parts", NORMALS, backbone="small").result(900)
    client.anomaly.enroll_items("parts", as_enrolled(client, NORMALS))
    assert encoded.encoding.encoding_id == trained.encoding_id
    return trained


def test_no_pod_has_more_rights_than_it_needs(cluster, client):
    for service in SERVICES:
        for pod in cluster.pods(service):
            inside = pod["spec"]["containers"][0]["securityContext"]
            assert inside["readOnlyRootFilesystem"] is True
            assert inside["capabilities"] == {"drop": ["ALL"]}
    name = cluster.pods("codec")[0]["metadata"]["name"]
    assert cluster.kubectl("exec", name, "--", "python3", "-c", "import os; print(os.getuid())").strip() == "65532"


def test_long_work_runs_as_jobs(cluster, client, detector):
    def ended():
        return {
            (job["metadata"]["labels"]["mekiki.io/service"], job["status"].get("succeeded")) for job in cluster.jobs()
        }

    wait_until(lambda: ended() == {("codec", 1), ("anomaly", 1)}, 60, "a Job that succeeded for each operation")


def test_a_killed_workers_operation_goes_on_with_the_next_attempt(cluster, client, detector):
    operation = client.saliency.train_classifier(
        "kinds", mekiki.ItemFilter("parts", labels=("good", "bent")), backbone="small", epochs=12, input_size=64
    )
    found = []

    def runs():
        pods = cluster.kubectl("get", "pods", "--selector", "mekiki.io/service=saliency", "--output", "name").split()
        found[:] = pods
        return pods and operation.progress().phase.startswith("training")

    wait_until(runs, 180, "a training pod")
    cluster.kubectl("delete", found[0], "--grace-period=0", "--force")
    assert operation.result(900).name == "kinds"
    attempts = [job for job in cluster.jobs() if job["metadata"]["labels"]["mekiki.io/service"] == "saliency"]
    assert len(attempts) == 2


def test_a_cancelled_job_ends(cluster, client, detector):
    operation = client.saliency.train_classifier(
        "never", mekiki.ItemFilter("parts", labels=("good", "bent")), backbone="small", epochs=400, input_size=224
    )
    wait_until(lambda: operation.progress().phase.startswith("training"), 180, "a training")
    operation.cancel()
    with pytest.raises(errors.Cancelled):
        operation.result(120)
    wait_until(lambda: not any(job["status"].get("active") for job in cluster.jobs()), 60, "no Job is left running")


def test_a_rolling_restart_under_load_fails_no_call(cluster, client, detector, parts):
    image = cv2.imread(str(next(parts.glob("test/good/*.png"))), cv2.IMREAD_UNCHANGED)
    failures, scores, latencies, stop = [], set(), [], threading.Event()

    def ask():
        while not stop.is_set():
            begun = time.monotonic()
            try:
                scores.add(client.anomaly.score_image("parts", image).score)
            except errors.MekikiError as error:
                failures.append(error)
            latencies.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        cluster.kubectl("rollout", "restart", f"deployment/{RELEASE}-anomaly")
        cluster.kubectl("rollout", "status", f"deployment/{RELEASE}-anomaly", "--timeout=300s")
        time.sleep(5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print(f"\nrolling restart: {len(latencies)} calls, {len(failures)} failed, slowest {max(latencies):.1f} s")
    assert not failures
    assert len(scores) == 1
    assert len(latencies) > 50
