"""Appends, updates and sweeps in processes that are killed at their k-th step, round after round.

`python killed_appender.py FOLDER ROUNDS` prints how often which state was found, as JSON, or dies of what is wrong.
A program of its own because it forks.
"""

import json
import os
import sys
from collections import Counter

import cv2
import numpy as np

from services.codec.catalog import read_chunk
from services.codec.changes import Appended, Change, NewItem
from services.codec.dataset import Datasets
from services.codec.items import hash_pixels
from services.codec.litter import list_grounds
from services.codec.stills import encode_png
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.runtime.sweep import sweep
from tests.dying import die_before_step, run_until_killed

NAME = "parts"
ROUNDS_A_STORE = 6
FIRST = "0-0"


def main(folder, rounds):
    cv2.setNumThreads(0)  # what is forked must have no threads
    os.fsync = lambda _: None  # still a step, but SIGKILL takes nothing from the kernel, and 200 rounds sync for long
    seen = Counter()
    for number in range(rounds):
        url = f"file://{folder}/{number // ROUNDS_A_STORE}"  # from nothing now and then: checking never takes long
        if number % ROUNDS_A_STORE == 0:
            datasets = open_datasets(url)
            datasets.create(NAME)
            datasets.append(NAME, make_batch("0"))
            groups = {}
        before = set(open_datasets(url).open(NAME).items)
        said = [line.split() for line in live_until_killed(url, number, steps=number + 1)]
        seen[check(url, before, said, groups)] += 1
    print(json.dumps(seen))


def live_until_killed(url, number, steps):
    def work(say):
        store = open_store(url)
        datasets = open_datasets(url)
        die_before_step(steps)
        for turn in range(10**6):
            batch = f"{number}x{turn}"
            say(f"append {batch}")
            answers = datasets.append(NAME, make_batch(batch))
            say(f"appended {' '.join(answer.item.item_id for answer in answers)}")
            say(f"update {batch}")
            datasets.update(NAME, [Change(FIRST, group=batch, mask_png=encode_png(scribble(batch)))])
            say(f"updated {batch}")
            for ground in list_grounds(store):
                sweep(ground, grace_s=0)

    return run_until_killed(work)


def check(url, before, said, groups):
    """What a caller may rely on, read by a process that knows nothing yet."""
    datasets = open_datasets(url)
    snapshot = datasets.open(NAME)
    tried = [words[1] for words in said if words[0] == "append"]
    acknowledged = before | {item for words in said if words[0] == "appended" for item in words[1:]}
    unsure = {item.item_id for item in make_batch(tried[-1])} - acknowledged
    assert set(snapshot.items) in (acknowledged, acknowledged | unsure)
    assert all(is_whole(datasets, snapshot, item) for item in snapshot.items.values())
    check_nothing_is_doubled(url, snapshot)
    wanted = [words[1] for words in said if words[0] == "update"]
    settled = [words[1] for words in said if words[0] == "updated"]
    found = snapshot.items[FIRST].group
    drawn = datasets.read_mask(snapshot, snapshot.items[FIRST])
    assert drawn is None if found == "" else np.array_equal(drawn, scribble(found))
    assert found in {*wanted[-1:], settled[-1] if settled else groups.get("last", "")}
    groups["last"] = found
    was_new = unsure <= set(snapshot.items)
    check_that_trying_again_works(datasets, tried[-1], was_new or not unsure)
    return {"append": "new append" if was_new else "old append", "appended": "append", "update": "update"}.get(
        said[-1][0], "sweep"
    )


def is_whole(datasets, snapshot, item):
    pixels = datasets.read_pixels(snapshot, item)  # checks the SHA-256 that is kept
    return hash_pixels(pixels) == item.sha256 == hash_pixels(draw(item.item_id))


def check_nothing_is_doubled(url, snapshot):
    chunks = [read_chunk(open_store(url), f"{snapshot.folder}/{key}") for key in snapshot.body["chunks"]]
    kept = [item for chunk in chunks for item in chunk]
    assert len(kept) == len(snapshot.items) == snapshot.body["item_count"]
    assert len({item.place for item in kept}) == len(kept)


def check_that_trying_again_works(datasets, batch, was_there):
    answers = datasets.append(NAME, make_batch(batch))
    assert all(isinstance(answer, Appended) and answer.duplicate == was_there for answer in answers)


def make_batch(batch):
    """Three images that share a video, and one that must be a PNG."""
    return [NewItem(f"{batch}-{part}", draw(f"{batch}-{part}"), 1) for part in ("0", "1", "2", "deep")]


def draw(item_id):
    random = np.random.default_rng(list(item_id.encode()))
    if item_id.endswith("deep"):
        return random.integers(0, 1 << 16, (17, 19)).astype("u2")
    return random.integers(0, 256, (16, 16)).astype("u1")


def scribble(batch):
    """A mask of which some is not known, another one each time."""
    random = np.random.default_rng(list(batch.encode()))
    return random.choice(np.array([0, 128, 255], np.uint8), (16, 16))


def open_store(url):
    return Store.open(url).prefixed("codec")


def open_datasets(url):
    store = open_store(url)
    return Datasets(store, lambda prefix: ManifestLog(store, prefix, has_copies=True))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
