import asyncio
import threading
import time

import pytest

from services.runtime.batcher import Batcher
from services.runtime.deadline import set_deadline
from services.runtime.errors import Cancelled, DeadlineExceeded, InvalidArgument, Overloaded


class Gate:
    """A model that waits until it is let go, and remembers what it was given."""

    def __init__(self):
        self.open = threading.Event()
        self.batches = []

    def __call__(self, values):
        self.batches.append(list(values))
        assert self.open.wait(60)
        return [value * 2 for value in values]

    @property
    def seen(self):
        return [value for batch in self.batches for value in batch]


def make(compute, **changes):
    options = {"max_batch": 4, "max_wait_s": 0.01, "queue_limit": 8} | changes
    return Batcher("test", compute, **options)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition lives in a thread
            await asyncio.sleep(0.001)


async def test_every_caller_gets_its_own_result():
    batcher = make(lambda values: [value * 2 for value in values], queue_limit=100)
    assert await asyncio.gather(*(batcher.submit(n) for n in range(100))) == [n * 2 for n in range(100)]
    await batcher.close()


async def test_a_batch_is_never_larger_than_its_limit_and_is_filled_when_there_is_work():
    gate = Gate()
    batcher = make(gate, max_batch=4, queue_limit=100)
    calls = [asyncio.create_task(batcher.submit(n)) for n in range(9)]
    gate.open.set()
    await asyncio.gather(*calls)
    assert [len(batch) for batch in gate.batches] == [4, 4, 1]
    await batcher.close()


async def test_as_many_batches_as_there_are_workers_are_computed_at_a_time():
    gate = Gate()
    batcher = make(gate, max_batch=2, max_wait_s=0, queue_limit=100, workers=3)
    calls = [asyncio.create_task(batcher.submit(n)) for n in range(9)]
    await until(lambda: len(gate.batches) == 3)
    await asyncio.sleep(0.05)
    assert sorted(gate.seen) == [0, 1, 2, 3, 4, 5]
    gate.open.set()
    assert await asyncio.gather(*calls) == [n * 2 for n in range(9)]
    await batcher.close()


async def test_the_queue_holds_exactly_its_bound():
    gate = Gate()
    batcher = make(gate, max_batch=1, queue_limit=3)
    first = asyncio.create_task(batcher.submit(0))
    await until(lambda: gate.batches)
    waiting = [asyncio.create_task(batcher.submit(n)) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await batcher.submit(4)
    assert refused.value.retry_after_s > 0
    with pytest.raises(Overloaded):
        batcher.check_room()
    gate.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 2, 4, 6]
    assert 4 not in gate.seen
    await batcher.close()


async def test_a_flood_is_never_held_beyond_the_bound():
    gate = Gate()
    batcher = make(gate, max_batch=2, queue_limit=5)
    calls = [asyncio.create_task(batcher.submit(n)) for n in range(1000)]
    await until(lambda: sum(call.done() for call in calls) == 995)
    assert len(batcher._queue) <= 5
    gate.open.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Overloaded) for result in results) == 995
    await batcher.close()


async def test_cancelled_work_is_never_started_and_makes_room_at_once():
    gate = Gate()
    batcher = make(gate, max_batch=1, queue_limit=1)
    first = asyncio.create_task(batcher.submit(0))
    await until(lambda: gate.batches)
    waiting = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    third = asyncio.create_task(batcher.submit(2))
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(first, third) == [0, 4]
    assert gate.seen == [0, 2]
    await batcher.close()


async def test_expired_work_is_never_started():
    gate = Gate()
    batcher = make(gate, max_batch=1)
    first = asyncio.create_task(batcher.submit(0))
    await until(lambda: gate.batches)

    async def hurried():
        set_deadline(0.02)
        return await batcher.submit(1)

    late = asyncio.create_task(hurried())
    await asyncio.sleep(0.05)
    gate.open.set()
    with pytest.raises(DeadlineExceeded):
        await late
    assert await first == 0
    assert gate.seen == [0]
    await batcher.close()


async def test_a_lone_request_waits_no_longer_than_the_longest_wait():
    batcher = make(lambda values: values, max_batch=100, max_wait_s=0.02)
    async with asyncio.timeout(60):
        assert await batcher.submit(7) == 7
    await batcher.close()


async def test_one_bad_value_fails_alone():
    def compute(values):
        return [InvalidArgument("image", "is odd") if value % 2 else value for value in values]

    batcher = make(compute)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(4)), return_exceptions=True)
    assert results[0] == 0
    assert results[2] == 2
    assert isinstance(results[1], InvalidArgument)
    assert isinstance(results[3], InvalidArgument)
    await batcher.close()


async def test_a_model_that_breaks_fails_its_batch_and_not_the_batcher():
    calls = []

    def compute(values):
        calls.append(values)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return values

    batcher = make(compute)
    with pytest.raises(RuntimeError):
        await batcher.submit(1)
    assert await batcher.submit(2) == 2
    await batcher.close()


async def test_a_model_that_forgets_a_result_fails_its_batch():
    batcher = make(lambda values: values[1:])
    with pytest.raises(RuntimeError, match="0 results for 1 values"):
        await batcher.submit(1)
    await batcher.close()


async def test_closing_answers_what_still_waits():
    gate = Gate()
    batcher = make(gate, max_batch=1)
    calls = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
    await until(lambda: gate.batches)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0.01)
    gate.open.set()
    await closing
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Cancelled | int) for result in results)
    assert sum(isinstance(result, Cancelled) for result in results) >= 2


async def test_the_event_loop_stays_free_while_the_model_computes():
    def compute(values):
        time.sleep(0.2)
        return values

    batcher = make(compute)
    call = asyncio.create_task(batcher.submit(1))
    ticks = 0
    while not call.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 20
    await batcher.close()
