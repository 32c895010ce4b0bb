"""Ten times more calls than can be answered: the excess is told so at once, the rest is served as under full load."""

import pytest

from tests.cluster.plant import IS_LONG
from tests.waiting import wait_until

SECONDS = 300 if IS_LONG else 45
QUEUE = 8
SINGLE = (
    "services.anomaly.replicas=1",
    f"services.anomaly.config.queue_limit={QUEUE}",
    "services.anomaly.resources.requests.cpu=1",
    "config.max_batch=1",
)

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def single(plant):
    plant.install(*SINGLE)
    yield plant.ready_pods("anomaly")[0]
    plant.install()


def memory_of(plant, pod):
    return plant.metric(pod, "process_resident_memory_bytes") / 2**20


def test_the_excess_is_refused_at_once_and_the_rest_is_served(plant, line_detectors, single):
    _, slow = line_detectors
    # As many callers as find room: one is served, the others wait.
    full = plant.start_line("full", detector=slow, callers=QUEUE + 1, seconds=20).wait(120)["times"]["OK"]
    capacity = full["count"] / 20
    before = memory_of(plant, single)
    flood = plant.start_line("flood", detector=slow, per_s=10 * capacity, seconds=SECONDS)
    depths, memories = [], []

    def watch():
        depths.append(plant.metric(single, "mekiki_queue_depth"))
        memories.append(memory_of(plant, single))
        return flood.has_ended()

    # Seldom, since whoever asks takes part of the same two processors.
    wait_until(watch, SECONDS + 120, "the end of the flood", every_s=5)
    times = flood.told()["times"]
    print(f"\ncapacity {capacity:.1f} calls/s, p99 {full['p99']:.0f} ms; ten times as many for {SECONDS} s: {times}")
    print(
        f"queue at most {max(depths):.0f} of {QUEUE}; memory before {before:.0f} MiB, then {memories[0]:.0f} to "
        f"{max(memories):.0f}, at the end {memories[-1]:.0f}"
    )
    assert times.keys() == {"OK", "Overloaded"}, flood.told()["errors"]
    assert times["OK"]["count"] > 0.8 * capacity * SECONDS
    assert max(depths) <= QUEUE
    assert times["OK"]["p99"] < 2 * full["p99"]
    assert memories[-1] < 1.1 * memories[len(memories) // 2]
