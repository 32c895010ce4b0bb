"""What is written down about long-running operations: the one place that knows the keys.

    unfinished/<id>                 marker of an operation without outcome: what a supervisor looks through
    operations/<id>/record          JSON: verb, request, time, trace; created once
    operations/<id>/attempt-0001    JSON: created by the supervisor that may start that worker; see `Attempt`
    operations/<id>/progress        JSON: overwritten by the worker; its `beat` is the heartbeat
    operations/<id>/checkpoint...   and part-...: what workers leave for each other; see `scratch.py`
    operations/<id>/cancel          marker: somebody wants it to stop
    operations/<id>/outcome         google.longrunning.Operation: created once, so that only one ending counts

Ids begin with the time in UTC, so that sorted ids are sorted by age.
"""

import base64
import json
import re
import secrets
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc import status_pb2

from mekiki.types.v1 import types_pb2
from services.runtime.errors import AlreadyExists, DataLoss, NotFound
from services.runtime.scratch import Scratch
from services.runtime.store import Store
from services.runtime.traces import current_traceparent

ID = re.compile(r"\d{8}T\d{9}-[0-9a-f]{8}")

LITTER_AGE = timedelta(hours=1)
"""A marker of that age without a record belongs to a process that died: no start lasts so long."""

WAITING = "waiting for a free worker"
STOPPING = "stopping"


@dataclass(frozen=True)
class Record:
    """What was asked for, and when."""

    verb: str
    request: any_pb2.Any
    create_time: datetime
    traceparent: str = ""
    """Of the call that started it; empty in records of before there were traces."""
    parts: int = 1
    """So many that can be done side by side."""

    def message(self) -> Message:
        """The request as it came."""
        descriptor = descriptor_pool.Default().FindMessageTypeByName(self.request.TypeName())
        message = message_factory.GetMessageClass(descriptor)()
        self.request.Unpack(message)
        return message


@dataclass(frozen=True)
class Attempt:
    """One start of a worker; number 0 stands for "none yet"."""

    number: int
    lost: int
    """How many workers before it were lost; those that stopped because their server did are not counted."""


@dataclass(frozen=True)
class Progress:
    """How far the worker of one attempt is."""

    attempt: int
    beat: int = 0
    """Counts the worker's signs of life; one that stands still for long means a lost worker."""
    released: bool = False
    """The worker stopped in good order before the end: the next attempt may start at once."""
    phase: str = "starting"
    done: int = 0
    total: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    update_time: str = ""


class Ledger:
    """The operations of one service, in that service's store."""

    def __init__(self, service: str, store: Store) -> None:
        self.service = service
        self._store = store

    def name(self, operation: str) -> str:
        """The public name of an id."""
        return f"{self.service}/operations/{operation}"

    def add(self, verb: str, request: Message, parts: int = 1) -> str:
        """Writes down a new operation, durable on return; returns its id."""
        packed, now = any_pb2.Any(), datetime.now(UTC)
        packed.Pack(request)
        operation = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(4)}"
        record = {
            "verb": verb,
            "create_time": now.isoformat(),
            "traceparent": current_traceparent(),
            "parts": parts,
            "request_type": packed.type_url,
            "request": base64.b64encode(packed.value).decode(),
        }
        self._store.create(
            f"unfinished/{operation}", b""
        )  # first: a marker alone is swept, a record alone is forgotten
        self._store.create(_key(operation, "record"), json.dumps(record).encode())
        return operation

    def record(self, operation: str) -> Record:
        """What was asked for. Raises NotFound."""
        try:
            stored = _read_json(self._store, _key(operation, "record"))
        except NotFound:
            raise NotFound("operation", self.name(operation)) from None
        request = any_pb2.Any(type_url=stored["request_type"], value=base64.b64decode(stored["request"]))
        created = datetime.fromisoformat(stored["create_time"])
        return Record(stored["verb"], request, created, stored.get("traceparent", ""), stored.get("parts", 1))

    def ids(self) -> list[str]:
        """All ids, newest first."""
        return self._store.folders("operations")[::-1]

    def unfinished(self) -> list[str]:
        """The ids without outcome, oldest first, and perhaps some whose outcome is new."""
        return [key.removeprefix("unfinished/") for key in self._store.list("unfinished")]

    def describe(self, operation: str) -> operations_pb2.Operation:
        """The operation as it stands. Raises NotFound."""
        return self.outcome(operation) or operations_pb2.Operation(
            name=self.name(operation), metadata=self._metadata(operation, self._progress_now(operation))
        )

    def outcome(self, operation: str) -> operations_pb2.Operation | None:
        """The ended operation, or None while it has not ended (or does not exist)."""
        try:
            return operations_pb2.Operation.FromString(self._store.get(_key(operation, "outcome")))
        except NotFound:
            return None

    def finish(self, operation: str, result: Message | status_pb2.Status, progress: Progress | None = None) -> bool:
        """Ends it with a response or an error; False when it had ended before."""
        progress = progress or self.progress(operation) or Progress(0, phase="ended")
        ended = operations_pb2.Operation(
            name=self.name(operation), metadata=self._metadata(operation, progress), done=True
        )
        if isinstance(result, status_pb2.Status):
            ended.error.CopyFrom(result)
        else:
            ended.response.Pack(result)
        try:
            self._store.create(_key(operation, "outcome"), ended.SerializeToString())
        except AlreadyExists:
            return False
        return True

    def retire(self, operation: str) -> None:
        """Removes what only an unfinished operation needs."""
        self.scratch(operation).clear()
        self._store.delete(f"unfinished/{operation}")

    def sweep(self, operation: str) -> None:
        """Removes the marker of an operation whose maker died before its record was written."""
        if datetime.now(UTC) - _made_at(operation) > LITTER_AGE:
            self._store.delete(f"unfinished/{operation}")

    def expire(self, age: timedelta) -> list[str]:
        """Removes the operations that were started longer ago than that and have ended; returns their ids."""
        before = datetime.now(UTC) - age
        old = [operation for operation in self.ids() if _made_at(operation) < before]
        gone = [operation for operation in old if self.outcome(operation)]
        for operation in gone:
            self.erase(operation)
        return gone

    def erase(self, operation: str) -> None:
        """Removes an operation, its record first: from then on it does not exist."""
        self._store.delete(_key(operation, "record"))
        for key in self._store.list(f"operations/{operation}"):
            self._store.delete(key)
        self._store.delete(f"unfinished/{operation}")

    def attempt(self, operation: str) -> Attempt:
        """The latest attempt."""
        prefix = f"operations/{operation}/attempt-"
        keys = [key for key in self._store.list(f"operations/{operation}") if key.startswith(prefix)]
        if not keys:
            return Attempt(0, 0)
        return Attempt(int(keys[-1].removeprefix(prefix)), _read_json(self._store, keys[-1])["lost"])

    def claim(self, operation: str, attempt: Attempt) -> bool:
        """Whether the caller alone may start that attempt's worker."""
        data = {"token": secrets.token_hex(16), "lost": attempt.lost}
        return self._store.claim(_attempt_key(operation, attempt.number), json.dumps(data).encode())

    def is_superseded(self, operation: str, number: int) -> bool:
        """Whether a later attempt than that one has been claimed."""
        return self._store.exists(_attempt_key(operation, number + 1))

    def progress(self, operation: str) -> Progress | None:
        """What the worker wrote last; None before it did."""
        try:
            return Progress(**_read_json(self._store, _key(operation, "progress")))
        except NotFound:
            return None

    def write_progress(self, operation: str, progress: Progress) -> None:
        """Overwrites the worker's progress."""
        self._store.put(_key(operation, "progress"), json.dumps(asdict(progress)).encode())

    def was_released(self, operation: str, number: int) -> bool:
        """Whether that attempt's worker stopped in good order before the end."""
        progress = self.progress(operation)
        return progress is not None and progress.attempt == number and progress.released

    def release(self, operation: str, number: int) -> None:
        """Marks that attempt's worker as stopped in good order."""
        progress = self.progress(operation) or Progress(number)
        self.write_progress(operation, replace(progress, attempt=number, released=True))

    def request_cancel(self, operation: str) -> None:
        """Marks it to be stopped. Raises NotFound."""
        self.record(operation)
        self._store.put(_key(operation, "cancel"), b"")

    def cancel_requested(self, operation: str) -> bool:
        """Whether somebody wants it to stop."""
        return self._store.exists(_key(operation, "cancel"))

    def scratch(self, operation: str) -> Scratch:
        """What its workers leave for each other."""
        return Scratch(self._store, f"operations/{operation}")

    def _progress_now(self, operation: str) -> Progress:
        progress = self.progress(operation) or Progress(0, phase=WAITING)
        if self.cancel_requested(operation):
            return replace(progress, phase=STOPPING)
        return progress

    def _metadata(self, operation: str, progress: Progress) -> any_pb2.Any:
        record, packed = self.record(operation), any_pb2.Any()
        metadata = types_pb2.OperationMetadata(
            verb=record.verb,
            phase=progress.phase,
            done=progress.done,
            total=progress.total,
            metrics=progress.metrics,
        )
        metadata.create_time.FromDatetime(record.create_time)
        updated = datetime.fromisoformat(progress.update_time) if progress.update_time else record.create_time
        metadata.update_time.FromDatetime(updated)
        packed.Pack(metadata)
        return packed


def _key(operation: str, leaf: str) -> str:
    return f"operations/{operation}/{leaf}"


def _made_at(operation: str) -> datetime:
    return datetime.strptime(operation[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _attempt_key(operation: str, number: int) -> str:
    return _key(operation, f"attempt-{number:04d}")


def _read_json(store: Store, key: str) -> dict[str, Any]:
    data = store.get(key)
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise DataLoss(f"object {key!r} is damaged") from error
