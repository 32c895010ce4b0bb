"""Appends to a manifest log in processes that are killed at their k-th step, round after round.

`python killed_writer.py FOLDER ROUNDS` prints what it found, as JSON. A program of its own because it forks.

An append is what a service does: a segment is created, then the manifest that names it.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable

from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from tests.dying import die_before_step, run_until_killed


def main(folder: str, rounds: int) -> None:
    seen: Counter[str] = Counter()
    for number in range(rounds):
        url = f"file://{folder}/{number // 40}"  # from nothing now and then, and never so long that checking is slow
        first = ManifestLog(Store.open(url), "bank").latest().number
        acknowledged = _append_until_killed(url, first, steps=number % 67 + 1)
        seen[_check(Store.open(url), max(first, acknowledged))] += 1
    print(json.dumps(seen))


def _append_until_killed(url: str, first: int, steps: int) -> int:
    """Returns the last number that the writer was told is durable, or 0."""

    def write(say: Callable[[str], None]) -> None:
        store, number = Store.open(url), first
        die_before_step(steps)
        while True:
            number += 1
            _append(store, number)
            say(str(number))

    return max(map(int, run_until_killed(write)), default=0)


def _append(store: Store, number: int) -> None:
    segment = f"segments/{os.getpid()}-{number}"
    store.create(segment, _content(segment))
    log = ManifestLog(store, "bank")
    log.update(lambda body: {"segments": [*body.get("segments", []), segment]})


def _check(store: Store, acknowledged: int) -> str:
    latest = ManifestLog(store, "bank").latest()
    segments = latest.body.get("segments", [])
    if any("tmp" in key for key in store.list()):
        return "litter is listed"
    if latest.number < acknowledged or len(segments) != latest.number:
        return "an acknowledged append is lost"
    if any(store.get(segment) != _content(segment) for segment in segments):
        return "a segment is damaged"
    if latest.number > acknowledged + 1:
        return "more than one append came from nowhere"
    return "new state" if latest.number > acknowledged else "old state"


def _content(segment: str) -> bytes:
    return segment.encode() * 100


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
