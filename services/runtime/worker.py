"""The process that does one operation's work: `python -m services.<service>.job <service>/operations/<id>`."""

import argparse
import copy
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.rpc import status_pb2

from services.runtime.arenas import limit_arenas
from services.runtime.config import Settings, load_settings
from services.runtime.errors import Cancelled, MekikiError, Unavailable
from services.runtime.ledger import Ledger
from services.runtime.logs import configure_logs, get_logger
from services.runtime.pulse import Assignment, Pulse, Stop
from services.runtime.status import to_status
from services.runtime.store import Store
from services.runtime.traces import Tracing, current_trace_id

FINISH_WAITS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Waits before each attempt to write the outcome while the store cannot be reached."""

NICENESS = 10
"""On a machine that also answers calls, a job takes what they leave."""


@dataclass(frozen=True)
class _Part:
    """One of several parts of an operation, and what is said while it is done."""

    number: int
    phase: str
    done: int  # of all parts, as it begins
    total: int


class Job:
    """One operation, as its handler sees it.

    A handler may be started again after a lost worker, with the last checkpoint: it must be idempotent.
    """

    def __init__(self, settings: Settings, store: Store, ledger: Ledger, pulse: Pulse) -> None:
        self.settings: Any = settings
        """The service's own settings class."""
        self.store = store
        """The service's part of the store."""
        self.operation_name = ledger.name(pulse.operation)
        """Such as "codec/operations/20261121T075008123-3f9a2c1b"."""
        self._ledger = ledger
        self._pulse = pulse
        self._scratch = ledger.scratch(pulse.operation)
        self._part: _Part | None = None

    def do_parts(self, phase: str, do: Callable[[int, "Job"], bytes]) -> list[bytes] | None:
        """Does those parts of the work that are this worker's and not done yet; for an operation started with parts.

        Args:
            phase: what the progress says, with the number of parts that are done.
            do: does one part; it gets the part's number, and a job with a checkpoint of its own.

        Returns:
            What came out of every part, in order; None while other workers do theirs: the last of them goes on.
        """
        total, mine = self._ledger.record(self._pulse.operation).parts, self._pulse.part
        for number in range(total) if mine is None else [mine]:
            if self._scratch.load_part(number) is None:
                part = copy.copy(self)
                part._part = _Part(number, phase, self._scratch.count_parts(), total)  # noqa: SLF001 - a copy of its own
                self._scratch.save_part(number, do(number, part))
        found = [made for made in map(self._scratch.load_part, range(total)) if made is not None]
        self.report(phase, len(found), total)
        return found if len(found) == total else None

    def report(self, phase: str, done: int = 0, total: int = 0, **metrics: float) -> None:
        """Says how far the work is. Call it often: it costs nothing, and is written once a second.

        Args:
            phase: what is being done now, such as "reading images".
            done: steps of this phase that are done.
            total: steps of this phase in all; 0 while unknown.
            **metrics: figures so far; those not named keep their last value.

        Raises:
            Cancelled: the work must stop here; let it pass.
        """
        self._stop_if_asked()
        if self._part is not None:  # what every worker of the operation may say, and means the same
            phase, done, total = self._part.phase, self._part.done, self._part.total
        before, now = self._pulse.progress, datetime.now(UTC).isoformat()
        known = before.metrics | {name: float(value) for name, value in metrics.items()}
        self._pulse.progress = replace(
            before, phase=phase, done=int(done), total=int(total), metrics=known, update_time=now
        )

    def save_checkpoint(self, data: bytes) -> None:
        """Keeps bytes that let the work go on from here; durable on return, in place of the last ones.

        Raises:
            Cancelled: the work must stop here; let it pass.
        """
        self._stop_if_asked()
        self._scratch.save_checkpoint(data, None if self._part is None else self._part.number)

    def load_checkpoint(self) -> bytes | None:
        """Returns what was saved last, by this worker or a lost one before it; None at a fresh start."""
        return self._scratch.load_checkpoint(None if self._part is None else self._part.number)

    def _stop_if_asked(self) -> None:
        if self._pulse.stop is not None:
            raise Cancelled(self._pulse.stop.value)


Handler = Callable[[Any, Job], Message | None]
"""Takes the request message and the job, returns the response message; None: another worker will, see `do_parts`."""


def run_job(handlers: Mapping[str, Handler], settings_class: type[Settings]) -> None:
    """Does the work of the operation that the command line names, writes down how it ended, and exits.

    Args:
        handlers: what each verb does, such as {"EncodeDataset": encode_dataset}.
        settings_class: the service's settings, read from the environment.
    """
    limit_arenas()
    assignment = _read_arguments(sys.argv[1:])
    settings = load_settings(settings_class)
    configure_logs(settings.log_level)
    tracing = Tracing(settings.traces_endpoint, settings.traces_ratio, f"{assignment.service}-job")
    if assignment.parent is not None:
        os.nice(NICENESS)
    store = Store.open(settings.store_url).prefixed(assignment.service)
    ledger = Ledger(assignment.service, store)
    pulse = Pulse(ledger, assignment)
    signal.signal(signal.SIGTERM, lambda _number, _frame: pulse.terminate())
    pulse.start()
    result = _work(handlers, Job(settings, store, ledger, pulse), ledger, pulse, tracing)
    pulse.end()
    concluded = _conclude(ledger, pulse, result)
    tracing.close()
    sys.exit(0 if concluded else 1)


def _read_arguments(arguments: list[str]) -> Assignment:
    parser = argparse.ArgumentParser(description="Does the work of one operation.")
    parser.add_argument("operation", help="its name, such as codec/operations/20261121T075008123-3f9a2c1b")
    parser.add_argument("--attempt", type=int, default=1, help="which start of a worker this is")
    parser.add_argument("--parent", type=int, help="process without which this one must not go on")
    parser.add_argument("--part", type=int, help="the only part that it does; without it all")
    parsed = parser.parse_args(arguments)
    service, _, operation = parsed.operation.partition("/operations/")
    return Assignment(service, operation, parsed.attempt, parsed.parent, parsed.part)


def _work(
    handlers: Mapping[str, Handler], job: Job, ledger: Ledger, pulse: Pulse, tracing: Tracing
) -> Message | status_pb2.Status | None:
    """Returns the response or the error; None when the work was stopped."""
    log = get_logger(operation=job.operation_name)
    try:
        record = ledger.record(pulse.operation)
        with tracing.follow(record.verb, record.traceparent, job.operation_name):
            configure_logs(job.settings.log_level, trace_id=current_trace_id())
            return handlers[record.verb](record.message(), job)
    except Exception as error:  # whatever it is, the caller must learn that it has ended
        if pulse.stop is not None:
            log.info("work stopped", reason=pulse.stop.value)
            return None
        if isinstance(error, MekikiError):
            log.info("work failed", error=str(error))
        else:
            log.exception("work failed")
        return to_status(error)


def _conclude(ledger: Ledger, pulse: Pulse, result: Message | status_pb2.Status | None) -> bool:
    """Writes down how it ended; False where its runner must see that it is not done, or the store was long away."""
    if pulse.stop is Stop.RELEASED and pulse.part is not None:
        return False
    for wait_s in FINISH_WAITS_S:
        time.sleep(wait_s)
        try:
            if result is not None:
                ledger.finish(pulse.operation, result, pulse.progress)
            elif pulse.stop is not None:
                pulse.conclude(pulse.stop)
        except Unavailable as error:
            get_logger(operation=ledger.name(pulse.operation)).warning("outcome not written", error=str(error))
        else:
            return True
    return False
