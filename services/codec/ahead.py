"""Work in threads, a little ahead of who takes it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

One = TypeVar("One")
Other = TypeVar("Other")


def map_ahead(work: Callable[[One], Other], values: Iterable[One], threads: int) -> Iterator[Other]:
    """Yields `work(value)` in order, computed in threads, only a few ahead of what was taken."""
    with ThreadPoolExecutor(threads, thread_name_prefix="encode") as pool:
        waiting: deque[Future[Other]] = deque()
        try:
            for value in values:
                waiting.append(pool.submit(work, value))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
