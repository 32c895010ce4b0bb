"""Containers killed with SIGKILL while data is written: what was acknowledged is there, the rest has failed clearly."""

import os
import random
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import mekiki
from mekiki import errors
from tests.cluster.line import IMAGE
from tests.cluster.plant import IS_LONG, SERVICES
from tests.waiting import wait_until

ROUNDS = 30 if IS_LONG else 6
SOCKET = Path(os.environ.get("CLUSTER_DIR", Path.home() / ".cache" / "mekiki-cluster")) / "run" / "containerd.sock"

pytestmark = pytest.mark.timeout(3600)


def draw(number):
    """An image that no other number has."""
    return np.random.default_rng(number).integers(0, 256, IMAGE.shape, dtype=np.uint8)


def kill(plant, pod):
    """Kills the pod's container from the node, since nobody inside can kill its process 1."""
    status = pod["status"].get("containerStatuses", [{}])[0]
    if "running" not in status.get("state", {}):
        return False
    container = status["containerID"].removeprefix("containerd://")
    command = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container]
    return subprocess.run(command, check=False, env=plant.environment, capture_output=True).returncode == 0


class Writer(threading.Thread):
    """Writes until it is told to stop, and remembers what was acknowledged."""

    def __init__(self, write):
        super().__init__(daemon=True)
        self._write = write
        self._stop_asked = threading.Event()
        self.acknowledged, self.failed = [], []

    def run(self):
        while not self._stop_asked.is_set():
            number = random.getrandbits(40)
            try:
                self._write(number)
                self.acknowledged.append(number)
            except errors.MekikiError as error:
                self.failed.append(error)

    def acknowledge_again(self):
        """Returns once its next write is acknowledged."""
        seen = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > seen, 120, "an acknowledged write")

    def stop(self):
        self._stop_asked.set()
        self.join(300)
        assert not self.is_alive(), "a call hangs"


def append(client, number):
    (answer,) = client.codec.append_items("killed", [mekiki.NewItem(str(number), draw(number))])
    if answer.error is not None:
        raise answer.error


def enroll(client, number):
    client.anomaly.enroll_items("quick", [mekiki.EnrolledItem(str(number), draw(number))])


def test_what_was_acknowledged_outlives_every_kill(plant, client, line_detectors):
    if not SOCKET.exists():
        pytest.skip("the containers of another cluster's nodes cannot be killed from here")
    client.codec.create_dataset("killed")
    before = client.anomaly.get_detector("quick").enrolled_count
    appends = Writer(lambda number: append(client, number))
    enrolments = Writer(lambda number: enroll(client, number))
    appends.start()
    enrolments.start()
    killed, trainings = [], []
    draws = random.Random(7)
    for number in range(ROUNDS):
        if number % 3 == 0:
            engine = mekiki.PatchEngine(input_side=64)
            trainings.append(client.anomaly.train_detector(f"d{number}", "line", engine=engine, backbone="small"))
        wait_until(lambda: draws.random() < 0.3, 30, "a random moment")
        victim = draws.choice(("codec", "anomaly", "anomaly-job") if number % 3 else ("codec", "anomaly"))
        pods = plant.pods(victim)
        if pods and kill(plant, draws.choice(pods)):
            killed.append(victim)
        wait_until(lambda: all(plant.ready_pods(name) for name in SERVICES), 180, "all services")
    # Pods are told to be ready until a probe misses the container that was killed last: calls tell who is back.
    for writer in (appends, enrolments):
        writer.acknowledge_again()
        writer.stop()
    _check(client, appends, enrolments, before)
    ends = [_end(training) for training in trainings]
    by_service = {name: killed.count(name) for name in sorted(set(killed))}
    print(f"\n{len(killed)} of {ROUNDS} rounds killed a container: {by_service};")
    print(f"{len(appends.acknowledged)} appends and {len(enrolments.acknowledged)} enrolments acknowledged,")
    print(f"{len(appends.failed)} and {len(enrolments.failed)} failed; trainings: {ends}")
    assert len(killed) > ROUNDS // 2
    assert appends.acknowledged
    assert enrolments.acknowledged


def _check(client, appends, enrolments, before):
    read = {each.item.item_id: each.pixels for each in client.codec.read_items(mekiki.ItemFilter("killed"))}
    for number in appends.acknowledged:
        assert np.array_equal(read[str(number)], draw(number))
    again = [mekiki.EnrolledItem(str(number), draw(number)) for number in enrolments.acknowledged]
    assert client.anomaly.enroll_items("quick", again).duplicate_count == len(again)
    # A call that failed may have been carried out, but nothing may be there twice.
    held = client.anomaly.get_detector("quick").enrolled_count - before
    assert len(again) <= held <= len(again) + len(enrolments.failed)
    for error in (*appends.failed, *enrolments.failed):
        assert isinstance(error, errors.Unavailable | errors.AlreadyExists), repr(error)


def _end(training):
    try:
        return f"version {training.result(600).version}"
    except (errors.FailedPrecondition, errors.Unavailable) as error:
        return repr(error)
