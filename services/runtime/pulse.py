"""A worker's signs of life: writes its progress once a second, and notices when it must stop."""

import os
import threading
import time
from dataclasses import dataclass, replace
from enum import Enum

from services.runtime.errors import Cancelled, MekikiError
from services.runtime.ledger import Ledger, Progress
from services.runtime.logs import get_logger
from services.runtime.status import to_status

BEAT_S = 1.0
"""Seconds between two writes of the progress, which is the heartbeat as well."""

GRACE_S = 4.0
"""How long a handler that was told to stop may go on before the process ends beneath it."""


class Stop(Enum):
    """Why a handler must not go on."""

    CANCELLED = "the operation was cancelled"
    RELEASED = "the worker's server is stopping"
    SUPERSEDED = "another worker has taken over"


@dataclass(frozen=True)
class Assignment:
    """What a worker is told on its command line."""

    service: str
    operation: str
    """The id, without the service."""
    attempt: int
    parent: int | None
    """The process without which it must not go on; None in the cluster."""
    part: int | None = None
    """The only part that it does; None: all of them."""


class Pulse:
    """The thread beside a handler. `progress` is set by the handler's thread, `stop` by this one."""

    def __init__(self, ledger: Ledger, assignment: Assignment) -> None:
        self.operation = assignment.operation
        self.part = assignment.part
        self.progress = Progress(assignment.attempt)
        self.stop: Stop | None = None
        self._ledger = ledger
        self._assignment = assignment
        self._beat = 0
        self._stopped_s = 0.0
        self._terminated = False
        self._ended = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._log = get_logger(operation=ledger.name(assignment.operation))

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    def terminate(self) -> None:
        """Says that the process was asked to end; safe in a signal handler."""
        self._terminated = True
        self._wake.set()

    def end(self) -> None:
        """Stops beating: the handler has returned."""
        self._ended = True
        self._wake.set()
        self._thread.join()

    def conclude(self, stop: Stop) -> None:
        """Writes down what a stopped worker leaves: an outcome, a release, or nothing."""
        if stop is Stop.CANCELLED:
            self._ledger.finish(self.operation, to_status(Cancelled(stop.value)), self.progress)
        elif stop is Stop.RELEASED and self._assignment.part is None:  # the workers of other parts go on
            self._ledger.write_progress(self.operation, replace(self.progress, beat=self._beat, released=True))

    def _run(self) -> None:
        while not self._ended:
            self._wake.clear()
            try:
                self._look()
            except MekikiError as error:  # the store may be back at the next beat
                self._log.warning("heartbeat failed", error=str(error))
            if not self._ended:
                self._wake.wait(BEAT_S)

    def _look(self) -> None:
        found = self._reason_to_stop()
        if found is not None and self.stop is None:
            self.stop, self._stopped_s = found, time.monotonic()
        if self.stop is not None and time.monotonic() - self._stopped_s > GRACE_S:
            self._end_process(self.stop)
        if self.stop is not Stop.SUPERSEDED:
            self._beat += 1
            self._ledger.write_progress(self.operation, replace(self.progress, beat=self._beat))

    def _reason_to_stop(self) -> Stop | None:
        orphaned = self._assignment.parent is not None and os.getppid() != self._assignment.parent
        if self._ledger.is_superseded(self.operation, self._assignment.attempt):
            return Stop.SUPERSEDED
        if self._ledger.cancel_requested(self.operation):
            return Stop.CANCELLED
        return Stop.RELEASED if orphaned or self._terminated else None

    def _end_process(self, stop: Stop) -> None:
        """Ends a handler that does not listen; as safe as a power cut, since every write is."""
        try:
            self.conclude(stop)
        finally:
            self._log.warning("handler did not stop in time", reason=stop.value)
            os._exit(1)
