"""The number of replicas follows the time that requests wait; new ones get load, and going ones fail nothing."""

import time

import pytest

from tests.waiting import wait_until

AUTOSCALING = "services.anomaly.autoscaling"
SCALING = (
    f"{AUTOSCALING}.enabled=true",
    f"{AUTOSCALING}.minReplicas=1",
    f"{AUTOSCALING}.maxReplicas=3",
    f"{AUTOSCALING}.queueWaitMs=20",
    f"{AUTOSCALING}.scaleDownAfterSeconds=15",
    # A fifth of a processor each, so that three of them and their callers fit on two.
    "services.anomaly.resources.limits.cpu=300m",
)

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def scaled(plant):
    plant.install(*SCALING)
    wait_until(lambda: len(plant.ready_pods("anomaly")) == 1, 300, "one replica")
    yield
    plant.install()


def served(plant):
    """Calls that each ready pod has answered, by the pod's name."""
    return {
        pod["metadata"]["name"]: plant.metric(
            pod, "mekiki_calls_total", rpc="/mekiki.anomaly.v1.AnomalyService/ScoreImage"
        )
        for pod in plant.ready_pods("anomaly")
    }


def rate(line, seconds=15.0):
    before = line.count()
    time.sleep(seconds)
    return (line.count() - before) / seconds


def test_replicas_follow_the_load_and_all_of_them_work(plant, line_detectors, scaled):
    quick, _ = line_detectors
    steady = plant.start_line("steady", detector=quick, callers=1, attempts=8)
    crowd = plant.start_line("crowd", detector=quick, callers=12, attempts=8, seconds=240)
    wait_until(crowd.count, 60, "a crowd at work")
    alone = rate(crowd)
    grown_s = wait_until(lambda: len(served(plant)) == 3, 240, "three replicas")
    shared_s = wait_until(lambda: min(served(plant).values()) > 0, 30, "load for all three")
    together = rate(crowd)
    print(f"\none replica: {alone:.1f} calls/s; three after {grown_s:.0f} s, all at work {shared_s:.0f} s later;")
    print(f"three replicas: {together:.1f} calls/s, calls by pod {served(plant)}")
    crowds = crowd.wait(400)
    shrunk_s = wait_until(lambda: len(plant.pods("anomaly")) == 1, 300, "one replica again")
    time.sleep(5)
    told = steady.told()
    print(f"one replica again after {shrunk_s:.0f} s; steady line {told}; crowd {crowds}")
    plant.kubectl("delete", "pod", "steady", "--now")
    assert together > 1.5 * alone
    assert crowds["times"].keys() == told["times"].keys() == {"OK"}
