"""Enrolls, forgets, sweeps and compacts in processes that are killed at their k-th step, round after round.

`python killed_enroller.py FOLDER ROUNDS` prints after what the processes died, as JSON, or dies of what is wrong.
A program of its own because it forks.
"""

import json
import os
import sys
import threading
from collections import Counter

from anomaly_vectors import FLAT, SMALL, check_rows, embed

from services.anomaly.bank import Bank
from services.anomaly.litter import _list_segments
from services.runtime.errors import MekikiError
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.runtime.sweep import Ground, sweep
from tests.dying import die_before_step, run_until_killed

ROUNDS_A_STORE = 10


def main(folder, rounds):
    os.fsync = lambda _: None  # still a step, but SIGKILL takes nothing from the kernel, and 200 rounds sync for long
    died = Counter()
    for number in range(rounds):
        url = f"file://{folder}/{number // ROUNDS_A_STORE}"  # from nothing now and then: checking never takes long
        before = open_bank(url).snapshot.items
        said = [line.split() for line in live_until_killed(url, 10_000 * number, steps=number + 1)]
        check(url, before, [(verb, int(first)) for verb, first in said])
        died[said[-1][0]] += 1
    print(json.dumps(died))


def live_until_killed(url, first, steps):
    """In every other life a second replica compacts all the time; in the others compaction has its turn."""

    def work(say):
        store, bank, number = Store.open(url), open_bank(url), first
        beside = (first // 10_000) % 2 == 1
        ground = Ground(store, "segments", ManifestLog(store, "log"), _list_segments, str)
        say(f"enroll {number}")  # before anything here, or beside it, can be the last step
        if beside:
            threading.Thread(target=compact_for_ever, args=(open_bank(url),), daemon=True).start()
        die_before_step(steps)
        while True:
            bank.enroll(make_pair(number))
            say(f"enrolled {number}")
            bank.forget([f"item {number}"])
            say(f"forgotten {number}")
            while not beside and bank.compact():
                pass
            say(f"compacted {number}")
            if not beside:  # a sweep without grace takes what the other has written and not yet named
                sweep(ground, grace_s=0)
            number += 2
            say(f"enroll {number}")

    return run_until_killed(work)


def compact_for_ever(bank):
    while True:
        try:
            bank.refresh()
            bank.compact()
        except MekikiError:  # the other replica has just merged a segment away
            pass


def check(url, before, said):
    """What a caller may rely on, read by a process that knows nothing yet."""
    bank = open_bank(url)
    forgotten = {f"item {first}" for verb, first in said if verb == "forgotten"}
    present = (before | {name for verb, first in said if verb == "enrolled" for name in name_pair(first)}) - forgotten
    verb, last = said[-1]
    unsure = {"enroll": set(name_pair(last)), "enrolled": {f"item {last}"}}.get(verb, set())
    allowed = (present, present | unsure) if verb == "enroll" else (present, present - unsure)
    assert bank.snapshot.items in allowed
    check_rows(bank)
    for category in bank.snapshot.categories:
        assert {choose_category(name) for name in bank.snapshot.of(category).items} == {category}
    bank.enroll(make_pair(last))  # whoever was not answered tries again
    assert bank.snapshot.items == present | set(name_pair(last))
    check_rows(open_bank(url))


def name_pair(first):
    return [f"item {first}", f"item {first + 1}"]


def make_pair(first):
    """One of each category: a commit that names two segments."""
    return [
        (name, choose_category(name), embed(number, count=4)) for number, name in enumerate(name_pair(first), first)
    ]


def choose_category(name):
    return "odd" if int(name.split()[1]) % 2 else "even"


def open_bank(url):
    store = Store.open(url)
    return Bank(store, ManifestLog(store, "log"), FLAT, sizes=SMALL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
