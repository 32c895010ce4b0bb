"""Sees to it that every unfinished operation has a worker, and that each one ends.

Any number of servers may supervise one store: what must happen once (an attempt, an outcome) is created once.
Whether a worker of another server lives is told by its heartbeat, as seen by this process's own clock, so that no two
machines' clocks are ever compared.
"""

import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from services.runtime.errors import Cancelled, FailedPrecondition, MekikiError, NotFound
from services.runtime.ledger import Attempt, Ledger
from services.runtime.logs import get_logger
from services.runtime.runners import Life, Runner, Sighting, Task
from services.runtime.status import to_status

EXPIRE_EVERY_S = 3600.0


@dataclass(frozen=True)
class Patience:
    """When a supervisor looks, and when it gives up."""

    poll_s: float = 1.0
    """Seconds between two looks; a start or cancel in this process is seen at once."""
    lost_after_s: float = 60.0
    """Somebody else's worker without a sign of life for so long is lost."""
    hung_after_s: float = 300.0
    """Our own, which we know to live, is killed after so long: longer, as a compiler or an import may starve it."""
    lost_limit: int = 3
    """So many lost workers, and the operation fails."""
    keep_s: float = 90 * 86_400.0
    """An operation that has ended is forgotten so long after its start."""


class Supervisor:
    """A thread that tends the operations of one service."""

    def __init__(self, ledger: Ledger, runner: Runner, patience: Patience) -> None:
        self._ledger = ledger
        self._runner = runner
        self._patience = patience
        self._beats: dict[str, tuple[tuple[int, int], float]] = {}  # operation: (attempt, beat), first seen when
        self._wake = threading.Event()
        self._closing = False
        self._starts = True
        self._thread = threading.Thread(target=self._run, name=f"{ledger.service}-operations", daemon=True)
        self._log = get_logger(service=ledger.service)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def wake(self) -> None:
        """Makes it look now."""
        self._wake.set()

    def start_no_more(self) -> None:
        """Leaves what has no worker to other servers, who may know a newer template of a Job."""
        self._starts = False

    def close(self) -> None:
        """Stops looking, and stops this process's workers; the next server goes on from their checkpoints."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for task in self._runner.close():
            try:
                self._ledger.release(task.operation, task.attempt)
            except MekikiError as error:  # then its silence will tell
                self._log.warning("worker cannot be released", operation=task.operation, error=str(error))

    def _run(self) -> None:
        expired_s = time.monotonic() - EXPIRE_EVERY_S
        while not self._closing:
            self._wake.clear()
            self._look_through()
            if time.monotonic() - expired_s >= EXPIRE_EVERY_S:
                expired_s = time.monotonic()
                self._expire()
            self._wake.wait(self._patience.poll_s)

    def _expire(self) -> None:
        try:
            gone = self._ledger.expire(timedelta(seconds=self._patience.keep_s))
        except Exception:  # noqa: BLE001 - the next hour is another chance
            self._log.warning("old operations cannot be forgotten", exc_info=True)
        else:
            if gone:
                self._log.info("old operations are forgotten", operations=len(gone))

    def _look_through(self) -> None:
        try:
            operations = self._ledger.unfinished()
        except MekikiError as error:
            self._log.warning("operations cannot be listed", error=str(error))
            return
        for operation in operations:
            if self._closing:
                return
            try:
                self._tend(operation)
            except Exception:  # noqa: BLE001 - one operation's trouble must not keep the others waiting
                self._log.exception("operation cannot be tended", operation=operation)

    def _tend(self, operation: str) -> None:
        attempt = self._ledger.attempt(operation)
        task = Task(self._ledger.service, operation, attempt.number)
        seen = self._runner.look(task)  # before the outcome is read: a worker writes it, then ends
        if self._ledger.outcome(operation):
            return self._retire(task, seen)
        cancelled = self._ledger.cancel_requested(operation)
        if seen.life is Life.RUNNING:
            if cancelled or self._is_silent(operation, attempt, self._patience.hung_after_s):
                self._runner.stop(task)
            return None
        if attempt.number and not self._is_over(operation, attempt, seen):
            return None
        if cancelled:
            return self._fail(operation, Cancelled("the operation was cancelled"))
        return self._try_again(operation, attempt, seen) if self._starts else None

    def _is_over(self, operation: str, attempt: Attempt, seen: Sighting) -> bool:
        if seen.life is Life.ENDED or self._ledger.was_released(operation, attempt.number):
            return True
        return self._is_silent(operation, attempt, self._patience.lost_after_s)

    def _is_silent(self, operation: str, attempt: Attempt, limit_s: float) -> bool:
        progress = self._ledger.progress(operation)
        beat = progress.beat if progress and progress.attempt == attempt.number else 0
        last, since_s = self._beats.get(operation, (None, 0.0))
        if last != (attempt.number, beat):
            self._beats[operation] = ((attempt.number, beat), time.monotonic())
            return False
        return time.monotonic() - since_s > limit_s

    def _try_again(self, operation: str, attempt: Attempt, seen: Sighting) -> None:
        lost = attempt.lost
        if attempt.number and not self._ledger.was_released(operation, attempt.number):
            lost += 1
        if lost >= self._patience.lost_limit:
            detail = seen.detail or f"silent for {self._patience.lost_after_s:g} s"
            message = f"the operation was given up: its worker was lost {lost} times, the last one {detail}"
            return self._fail(operation, FailedPrecondition("WORKER_LOST", message))
        following = Attempt(attempt.number + 1, lost)
        try:
            parts = self._ledger.record(operation).parts
        except NotFound:
            return self._ledger.sweep(operation)
        task = Task(self._ledger.service, operation, following.number, parts)
        return self._runner.start(task, lambda: self._claim(operation, following))

    def _claim(self, operation: str, attempt: Attempt) -> bool:
        claimed = self._ledger.claim(operation, attempt)
        if claimed:
            self._log.info("worker starts", operation=operation, attempt=attempt.number, lost=attempt.lost)
        return claimed

    def _fail(self, operation: str, error: MekikiError) -> None:
        if self._ledger.finish(operation, to_status(error)):
            self._log.info("operation ended", operation=operation, error=str(error))
        self._wake.set()  # to retire it at once

    def _retire(self, task: Task, seen: Sighting) -> None:
        if seen.life is Life.RUNNING:  # about to end; made to if it does not
            return self._runner.stop(task)
        self._ledger.retire(task.operation)
        self._beats.pop(task.operation, None)
        return self._runner.forget(task)
