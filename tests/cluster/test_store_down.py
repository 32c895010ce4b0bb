"""The object store away for a minute: scoring goes on from memory, writes say so, and all is well afterwards."""

import time

import pytest

import mekiki
from mekiki import errors
from tests.cluster.line import IMAGE
from tests.waiting import wait_until

DOWN_S = 60

pytestmark = pytest.mark.timeout(900)


def shell(plant, command):
    plant.kubectl("exec", "deployment/objects", "--", "/bin/sh", "-c", command)


def append(plant, name):
    options = mekiki.ClientOptions(timeout_s=10, retry=mekiki.RetryPolicy(attempts=1))
    with mekiki.Client(plant.address("codec"), options=options) as client:
        items = [mekiki.NewItem(name, IMAGE, split="train")]
        return next(iter(client.codec.append_items("line", items, timeout_s=20))).error


def test_scoring_goes_on_writes_fail_clearly_and_it_recovers(plant, client, line_detectors):
    quick, _ = line_detectors
    line = plant.start_line("line", detector=quick, callers=2, seconds=DOWN_S + 20)
    wait_until(line.count, 60, "a line at work")
    began = time.monotonic()
    shell(plant, "touch /data/down && kill -9 $(cat /data/pid)")
    refused = []
    try:
        while time.monotonic() - began < DOWN_S:
            begun = time.monotonic()
            try:
                refused.append(append(plant, f"lost-{len(refused)}"))
            except errors.MekikiError as error:
                refused.append(error)
            print(f"\n{time.monotonic() - begun:.1f} s: {refused[-1]!r}")
            time.sleep(3)
    finally:
        shell(plant, "rm -f /data/down")
    assert all(isinstance(error, errors.Unavailable | errors.DeadlineExceeded) for error in refused), refused
    recovered_s = wait_until(lambda: not _fails(plant, "after"), 60, "a write that succeeds")
    told = line.wait(120)
    print(f"\n{len(refused)} writes refused in {DOWN_S} s; recovered {recovered_s:.1f} s after; the line {told}")
    assert told["times"].keys() == {"OK"}, told["errors"]
    assert [read.item.item_id for read in client.codec.read_items(mekiki.ItemFilter("line", item_ids=("after",)))]
    client.anomaly.enroll_items(quick, [mekiki.EnrolledItem("after", IMAGE)])


def _fails(plant, name):
    try:
        return append(plant, name)
    except errors.MekikiError as error:
        return error
