"""A production line, in a pod: asks for scores as its wish says, then tells how it went. Needs the SDK alone.

    line.py '{"address": "plant-anomaly-headless:8080", "detector": "fast", "calls": 1000}'

Closed loop: `callers` ask one after the other. Open loop, where `per_s` is given: a call begins every 1 / per_s seconds
whether earlier ones have ended or not. Lines of JSON: one a second, and a last one with "ended".
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np

import mekiki

IMAGE = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


@dataclass(frozen=True)
class Wish:
    """What a line does."""

    address: str
    detector: str
    calls: int = 0
    """So many, or any number."""
    seconds: float = 3600.0
    """No call begins later than that."""
    callers: int = 4
    per_s: float = 0.0
    attempts: int = 1
    """Of each call; 1 means no retries."""


@dataclass
class Tally:
    """How it went so far; times in milliseconds."""

    scores: set[float] = field(default_factory=set)
    ended: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    def tell(self, *, ended: bool) -> str:
        times = {code: _quantiles(values) for code, values in self.ended.items()}
        return json.dumps({"ended": ended, "scores": sorted(self.scores), "times": times, "errors": dict(self.errors)})


def _quantiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99))
    return {"count": len(values), "p50": round(p50, 1), "p99": round(p99, 1), "max": round(max(values), 1)}


async def ask(client: mekiki.AsyncClient, wish: Wish, tally: Tally) -> None:
    begun, code = time.monotonic(), "OK"
    try:
        tally.scores.add((await client.anomaly.score_image(wish.detector, IMAGE, heatmap_side=0)).score)
    except mekiki.MekikiError as error:
        code = type(error).__name__
        tally.errors[f"{code}: {error.message}"[:200]] += 1
    tally.ended.setdefault(code, []).append((time.monotonic() - begun) * 1000)


async def keep_asking(client: mekiki.AsyncClient, wish: Wish, tally: Tally) -> None:
    """The closed loop."""
    end, left = time.monotonic() + wish.seconds, itertools.count(wish.calls or sys.maxsize, -1)

    async def caller() -> None:
        while next(left) > 0 and time.monotonic() < end:
            await ask(client, wish, tally)

    await asyncio.gather(*(caller() for _ in range(wish.callers)))


async def ask_at_a_rate(client: mekiki.AsyncClient, wish: Wish, tally: Tally) -> None:
    """The open loop."""
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(round(wish.seconds * wish.per_s)):
            await asyncio.sleep(max(0.0, begun + number / wish.per_s - time.monotonic()))
            group.create_task(ask(client, wish, tally))


async def main(wish: Wish) -> None:
    options = mekiki.ClientOptions(retry=mekiki.RetryPolicy(attempts=wish.attempts))
    tally = Tally()

    async def report() -> None:
        while True:
            await asyncio.sleep(1)
            print(tally.tell(ended=False), flush=True)

    print(json.dumps(asdict(wish)), flush=True)
    client = mekiki.AsyncClient(wish.address, options=options)
    reporter = asyncio.create_task(report())
    await (ask_at_a_rate if wish.per_s else keep_asking)(client, wish, tally)
    reporter.cancel()
    await client.close()
    print(tally.tell(ended=True), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Wish(**json.loads(sys.argv[1]))))
