"""Appends to a manifest log in processes that are killed at their k-th step, round after round.

`python killed_writer.py FOLDER ROUNDS` prints what it found, as JSON. A program of its own because it forks.

An append is what a service does: a segment is created, then the manifest that names it. A step is whatever reaches the
file system: an open, a sync, a link, a rename, a removal, a new folder; the writer is killed before it.
"""

import json
import os
import signal
import sys
from collections import Counter
from typing import Any

from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

STEPS = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


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
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        store = Store.open(url)
        _die_before_step(steps)
        while True:
            first += 1
            _append(store, first)
            os.write(writing, f"{first}\n".encode())
    os.close(writing)
    with os.fdopen(reading) as acknowledgements:
        numbers = acknowledgements.read().split()
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        raise SystemExit("the writer ended by itself")
    return int(numbers[-1]) if numbers else 0


def _append(store: Store, number: int) -> None:
    segment = f"segments/{os.getpid()}-{number}"
    store.create(segment, _content(segment))
    log = ManifestLog(store, "bank")
    log.update(lambda body: {"segments": [*body.get("segments", []), segment]})


def _die_before_step(steps: int) -> None:
    left, sync = steps, os.fsync

    def step(event: str, arguments: tuple[Any, ...] = ()) -> None:
        nonlocal left
        if event in STEPS and not (event == "open" and arguments[0] == "/dev/null"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def sync_step(descriptor: int) -> None:
        step("open", ("fsync",))
        sync(descriptor)

    sys.addaudithook(step)
    os.fsync = sync_step  # type: ignore[assignment] # a sync raises no audit event


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
