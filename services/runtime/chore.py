"""Work that a process does again and again beside the calls."""

import random
import threading
import time
from collections.abc import Callable

from services.runtime.logs import get_logger

IsClosed = Callable[[], bool]


class Chore:
    """Does `work` again and again in a thread of its own, until closed. What goes wrong is logged and tried again.

    A process never waits for it, so that work must be such that killing it at any moment does no harm; any number of
    replicas may do it at once.

    Args:
        name: of the thread and in the log.
        work: is told whether the chore is closed, and looks before it begins something that takes long.
        every_s: seconds from the end of one turn to the next, about: replicas do not keep step.
        first_after_s: seconds to the first turn, about.
        rest: a pause is at least so many times as long as the turn before it took.
    """

    def __init__(
        self, name: str, work: Callable[[IsClosed], None], every_s: float, first_after_s: float, rest: float = 0
    ) -> None:
        self._name = name
        self._work = work
        self._every_s = every_s
        self._first_after_s = first_after_s
        self._rest = rest
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins; the first turn comes later, so that no start is slowed by it."""
        self._thread.start()

    def close(self) -> None:
        """Begins no further turn; one under way may go on."""
        self._closed.set()

    def _run(self) -> None:
        wait_s = self._first_after_s
        while not self._closed.wait(wait_s * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter, not a secret
            begun_s = time.monotonic()
            try:
                self._work(self._closed.is_set)
            except Exception:  # noqa: BLE001 - a thread that nobody waits for must not die of a bad day
                get_logger().warning(f"{self._name} failed", exc_info=True)
            wait_s = max(self._every_s, self._rest * (time.monotonic() - begun_s))
