"""A shift's worth of calls, and meanwhile the pods that answer them are replaced in every way that a cluster knows.

Half of the calls are by a line that tries a failed call again, half by one that does not.
"""

import pytest

from tests.cluster.plant import IS_LONG, RELEASE
from tests.waiting import wait_until

CALLS, ROUNDS = (100_000, 3) if IS_LONG else (10_000, 1)

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture
def replicas(plant):
    plant.install("services.anomaly.replicas=3")
    yield 3
    plant.install()


def restart(plant):
    plant.kubectl("rollout", "restart", f"deployment/{RELEASE}-anomaly")
    plant.kubectl("rollout", "status", f"deployment/{RELEASE}-anomaly", "--timeout=300s")


def upgrade(plant, number):
    plant.install("services.anomaly.replicas=3", f"services.anomaly.podAnnotations.shift=no-{number}")


def evict_all(plant, replicas):
    """One pod after the other, as soon as the disruption budget lets it go."""
    for pod in plant.pods("anomaly"):
        name = pod["metadata"]["name"]
        wait_until(lambda name=name: plant.evict(name), 120, f"the eviction of {name}")
        wait_until(lambda: len(plant.ready_pods("anomaly")) == replicas, 120, "a pod in its place")


def test_no_disruption_fails_a_call(plant, line_detectors, replicas):
    quick, _ = line_detectors
    lines = {
        attempts: plant.start_line(f"line-{attempts}", detector=quick, calls=CALLS // 2, callers=4, attempts=attempts)
        for attempts in (1, 8)
    }
    wait_until(lambda: all(line.count() for line in lines.values()), 60, "two lines at work")
    for number in range(1, ROUNDS + 1):
        restart(plant)
        upgrade(plant, number)
        evict_all(plant, replicas)
        print(f"\nunder load: {plant.tell_pods()}")
        print(f"round {number} of restart, upgrade, eviction; calls {[line.count() for line in lines.values()]}")
    told = {attempts: line.wait(3000) for attempts, line in lines.items()}
    print("\nwithout retries", told[1], "\nwith retries", told[8])
    assert told[8]["times"].keys() == {"OK"}
    assert told[8]["scores"] == told[1]["scores"]
    assert len(told[8]["scores"]) == 1
    failed = sum(times["count"] for code, times in told[1]["times"].items() if code != "OK")
    assert failed <= CALLS // 2 * 0.001, told[1]["errors"]
