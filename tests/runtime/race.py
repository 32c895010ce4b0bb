"""Many processes that want the same manifest numbers: `python race.py URL RACES WRITERS` prints who won each, as JSON.

A program of its own because it forks, which a test process with threads must not.
"""

import json
import multiprocessing
import sys
from multiprocessing.synchronize import Barrier

from services.runtime.errors import Conflict
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store


def main(url: str, races: int, writers: int) -> None:
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(writers), context.SimpleQueue()
    processes = [context.Process(target=_write, args=(url, writer, races, barrier, wins)) for writer in range(writers)]
    for process in processes:
        process.start()
    found = [wins.get() for _ in range(writers)]
    for process in processes:
        process.join()
    log = ManifestLog(Store.open(url), "race")
    held = [log.read(number + 1).body["writer"] for number in range(races)]
    winners: list[list[int]] = [[] for _ in range(races)]
    for writer, numbers in found:
        for number in numbers:
            winners[number].append(writer)
    print(json.dumps({"winners": winners, "held": held, "latest": log.latest().number}))


def _write(url: str, writer: int, races: int, barrier: Barrier, wins: "multiprocessing.SimpleQueue[object]") -> None:
    log, won = ManifestLog(Store.open(url), "race"), []
    for number in range(races):
        barrier.wait()
        try:
            log.commit(number + 1, {"writer": writer})
            won.append(number)
        except Conflict:
            pass
    wins.put((writer, won))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
