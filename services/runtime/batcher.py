"""Gathers requests into batches for one model.

The queue is bounded exactly, what expired or was cancelled is never started, and a full queue says so at once.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.runtime import metrics
from services.runtime.deadline import current_deadline
from services.runtime.errors import Cancelled, DeadlineExceeded, Overloaded
from services.runtime.traces import Place, add_span, recorded_place

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, eq=False)
class _Entry(Generic[In, Out]):
    value: In
    future: asyncio.Future[Out]
    deadline: float | None
    since: float
    place: Place | None
    """Where its spans go; None where they are not recorded."""


class Batcher(Generic[In, Out]):
    """Computes values in batches in threads of its own.

    Args:
        name: label of its metrics.
        compute: takes 1 to `max_batch` values and returns as many results, in order; a result that is an exception
            fails its request alone.
        max_batch: most values a batch.
        max_wait_s: longest time the oldest value waits for company, seconds.
        queue_limit: most values that wait; those being computed do not count.
        executor: the device's threads, shared by the batchers of one device; default a new one.
        workers: most batches that are computed at a time, where the executor has as many threads.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[list[In]], Sequence[Out | Exception]],
        *,
        max_batch: int,
        max_wait_s: float,
        queue_limit: int,
        executor: ThreadPoolExecutor | None = None,
        workers: int = 1,
    ) -> None:
        self._name = name
        self._compute = compute
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._queue_limit = queue_limit
        self._executor = executor or ThreadPoolExecutor(workers, thread_name_prefix=f"batch-{name}")
        self._worker_count = workers
        self._queue: OrderedDict[int, _Entry[In, Out]] = OrderedDict()
        self._arrived = asyncio.Event()
        self._batch_seconds = 0.01
        self._workers: list[asyncio.Task[None]] = []

    def check_room(self) -> None:
        """Tells at once, before a value is read and decoded, that there is no room for it.

        Raises:
            Overloaded: the queue is full.
        """
        if len(self._queue) >= self._queue_limit:
            metrics.REFUSED.labels(self._name, "full").inc()
            raise Overloaded(f"queue {self._name}: {self._queue_limit} requests are waiting", self._retry_after_s())

    async def submit(self, value: In) -> Out:
        """Returns the value's result.

        Raises:
            Overloaded: the queue is full; nothing was started.
            DeadlineExceeded: the call's deadline passed before the value's turn came.
        """
        self.check_room()
        entry: _Entry[In, Out] = _Entry(
            value, asyncio.get_running_loop().create_future(), current_deadline(), time.monotonic(), recorded_place()
        )
        self._enqueue(entry)
        try:
            return await entry.future
        finally:
            # A caller that gave up makes room at once.
            if self._queue.pop(id(entry), None) is not None:
                metrics.QUEUE_DEPTH.labels(self._name).set(len(self._queue))

    async def close(self) -> None:
        """Stops; what waits or is being computed is answered Cancelled."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []
        for entry in list(self._queue.values()):
            _fail(entry.future, Cancelled("the service is stopping"))
        await asyncio.to_thread(self._executor.shutdown)

    def _enqueue(self, entry: _Entry[In, Out]) -> None:
        self._queue[id(entry)] = entry
        metrics.QUEUE_DEPTH.labels(self._name).set(len(self._queue))
        self._arrived.set()
        if not self._workers:
            names = [f"batcher-{self._name}-{number}" for number in range(self._worker_count)]
            self._workers = [asyncio.create_task(self._work(), name=name) for name in names]

    async def _work(self) -> None:
        while True:
            await self._gather()
            batch = self._take()
            try:
                await self._answer(batch)
            finally:
                for entry in batch:
                    _fail(entry.future, Cancelled("the service is stopping"))

    async def _gather(self) -> None:
        """Waits until a batch is full, or its oldest value has waited long enough."""
        while True:
            self._arrived.clear()
            if len(self._queue) >= self._max_batch:
                return
            patience = None
            if self._queue:
                patience = next(iter(self._queue.values())).since + self._max_wait_s - time.monotonic()
                if patience <= 0:
                    return
            try:
                async with asyncio.timeout(patience):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Entry[In, Out]]:
        """Takes the next batch from the queue; what expired is refused instead."""
        now = time.monotonic()
        batch: list[_Entry[In, Out]] = []
        while self._queue and len(batch) < self._max_batch:
            _, entry = self._queue.popitem(last=False)
            add_span(entry.place, f"wait {self._name}", entry.since, now)
            if entry.deadline is not None and entry.deadline <= now:
                metrics.REFUSED.labels(self._name, "expired").inc()
                _fail(
                    entry.future,
                    DeadlineExceeded(f"queue {self._name}: expired after {now - entry.since:.3f} s"),
                )
            elif not entry.future.done():
                metrics.QUEUE_SECONDS.labels(self._name).observe(now - entry.since)
                batch.append(entry)
        metrics.QUEUE_DEPTH.labels(self._name).set(len(self._queue))
        return batch

    async def _answer(self, batch: list[_Entry[In, Out]]) -> None:
        if not batch:
            return
        start = time.monotonic()
        results = await asyncio.get_running_loop().run_in_executor(self._executor, self._run, batch)
        self._batch_seconds = time.monotonic() - start
        metrics.BATCH_SIZE.labels(self._name).observe(len(batch))
        metrics.COMPUTE_SECONDS.labels(self._name).observe(self._batch_seconds)
        for entry, result in zip(batch, results, strict=True):
            add_span(entry.place, f"compute {self._name}", start, start + self._batch_seconds, batch_size=len(batch))
            if isinstance(result, Exception):
                _fail(entry.future, result)
            elif not entry.future.done():
                entry.future.set_result(result)

    def _run(self, batch: list[_Entry[In, Out]]) -> Sequence[Out | Exception]:
        try:
            results = self._compute([entry.value for entry in batch])
        except Exception as error:  # noqa: BLE001 - whatever it was, every caller hears of it
            return [error] * len(batch)
        if len(results) != len(batch):
            return [RuntimeError(f"{self._name}: {len(results)} results for {len(batch)} values")] * len(batch)
        return results

    def _retry_after_s(self) -> float:
        """Returns the time the present queue takes, at the speed of the last batch."""
        return max(0.01, self._batch_seconds * self._queue_limit / self._max_batch / self._worker_count)


def _fail(future: asyncio.Future[Out], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
