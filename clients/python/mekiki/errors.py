"""The errors of the SDK: what a service answered, as exceptions.

MekikiError
├── InvalidArgument      bad input: `field` names where, the text names limit and value
├── NotFound             an unknown name
├── AlreadyExists        a name that is taken
├── FailedPrecondition   right call, wrong moment: `reason` says which, such as WEIGHTS_MISSING
├── Conflict             somebody else changed it first: read again, retry
├── Overloaded           a full queue: nothing was started, retry after `retry_after_s`
├── DataLoss             stored bytes are damaged
├── Cancelled            the work was cancelled
├── DeadlineExceeded     the deadline passed first
├── Unavailable          nobody answers at the address, or a neighbour of the service does not
├── PermissionDenied     the caller is known but may not
├── Unauthenticated      the caller is not known
├── Unimplemented        the service is older than this SDK
└── Internal             a bug in the service; its log holds the traceback under the request id

One table maps status codes to these classes. It is the inverse of `services/runtime/status.py`.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"

# What grpc.aio says of a stream that ended while it was writing, in place of the status that the server ended it with.
_WRITE_FAILED = "Internal error from Core"

# How a gRPC server ends, in a word of its own, the calls that it drops as it stops. A service says more.
_DROPPED = "CANCELLED"

_Detail = TypeVar("_Detail", bound=Message)


class MekikiError(Exception):
    """Root of everything a service can answer instead of a result.

    Attributes:
        message: the service's sentence.
        reason: stable and machine-readable, such as OVERLOADED; empty where the answer carried none.
        metadata: what the service added to the reason, such as the kind and name of a missing thing.
        field: the path of the bad field in the request, such as `image.encoded`; empty when none is named.
        retry_after_s: how long the service asks to wait before the next attempt; None when it asks nothing.
        request_id: the id under which the service's log holds this call; empty for a frame of a stream.
        status: the answer as it came, so that a service can pass a neighbour's error on unchanged; None for an error
            that the SDK raised by itself.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] = MappingProxyType({}),
        request_id: str = "",
        status: status_pb2.Status | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s
        self.metadata = MappingProxyType(dict(metadata))
        self.request_id = request_id
        self.status = status


class InvalidArgument(MekikiError):
    """Bad input; `field` is its path in the request."""


class NotFound(MekikiError):
    """There is nothing of that name."""


class AlreadyExists(MekikiError):
    """The name is taken."""


class FailedPrecondition(MekikiError):
    """The call is right but the state is not; `reason` says which state."""


class Conflict(MekikiError):
    """Somebody else changed it first: read it again and repeat the change."""


class Overloaded(MekikiError):
    """A bounded queue is full and nothing was started; wait `retry_after_s` seconds."""


class DataLoss(MekikiError):
    """Stored bytes do not match their checksum or cannot be decoded."""


class Cancelled(MekikiError):
    """The work was cancelled."""


class DeadlineExceeded(MekikiError):
    """The deadline passed before the answer came."""


class Unavailable(MekikiError):
    """Nobody answers at the address just now."""


class PermissionDenied(MekikiError):
    """The caller may not do this."""


class Unauthenticated(MekikiError):
    """The call carries no valid credentials."""


class Unimplemented(MekikiError):
    """The service does not know this call: it is older than the SDK, or another service altogether."""


class Internal(MekikiError):
    """A bug in the service."""


CLASS_OF_CODE: Mapping[int, type[MekikiError]] = MappingProxyType(
    {
        code_pb2.INVALID_ARGUMENT: InvalidArgument,
        code_pb2.OUT_OF_RANGE: InvalidArgument,
        code_pb2.NOT_FOUND: NotFound,
        code_pb2.ALREADY_EXISTS: AlreadyExists,
        code_pb2.FAILED_PRECONDITION: FailedPrecondition,
        code_pb2.ABORTED: Conflict,
        code_pb2.RESOURCE_EXHAUSTED: Overloaded,
        code_pb2.DATA_LOSS: DataLoss,
        code_pb2.CANCELLED: Cancelled,
        code_pb2.DEADLINE_EXCEEDED: DeadlineExceeded,
        code_pb2.UNAVAILABLE: Unavailable,
        code_pb2.PERMISSION_DENIED: PermissionDenied,
        code_pb2.UNAUTHENTICATED: Unauthenticated,
        code_pb2.UNIMPLEMENTED: Unimplemented,
        code_pb2.INTERNAL: Internal,
        code_pb2.UNKNOWN: Internal,
    }
)


class RpcFailure(Protocol):
    """What both colours of gRPC errors have in common."""

    def code(self) -> grpc.StatusCode:
        """Which kind of failure."""

    def details(self) -> str | None:
        """The server's sentence, or gRPC's own."""

    def trailing_metadata(self) -> Any:  # noqa: ANN401 -- pairs, in a container of each colour's own
        """What came with it, the rich status among it."""


def from_rpc(failure: RpcFailure, request_id: str = "") -> MekikiError:
    """The exception for a failed call; `request_id` is the one the call was sent with."""
    return from_status(_status_of(failure), request_id)


def from_status(status: status_pb2.Status, request_id: str = "") -> MekikiError:
    """The exception for a status that came as a value: of one frame in a stream, or of a long-running operation."""
    info = _first(status.details, error_details_pb2.ErrorInfo)
    return CLASS_OF_CODE.get(status.code, Internal)(
        status.message,
        reason=info.reason,
        metadata=dict(info.metadata),
        field=_bad_field(status.details),
        retry_after_s=_retry_after_s(status.details),
        request_id=request_id,
        status=status,
    )


def _status_of(failure: RpcFailure) -> status_pb2.Status:
    """The rich status of a failed call; without details where the server (or gRPC itself) sent none."""
    if failure.code() is grpc.StatusCode.INTERNAL and failure.details() == _WRITE_FAILED:
        return status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the stream broke while a frame was being sent")
    if failure.code() is grpc.StatusCode.CANCELLED and failure.details() == _DROPPED:
        return status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the service stopped before it had answered")
    plain = status_pb2.Status(code=failure.code().value[0], message=failure.details() or "")
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                rich = status_pb2.Status.FromString(value)
            except DecodeError:
                return plain
            return rich if rich.code == plain.code else plain
    return plain


def _first(details: Iterable[any_pb2.Any], kind: type[_Detail]) -> _Detail:
    """The first detail of that kind, or an empty one."""
    message = kind()
    for detail in details:
        if detail.type_url.endswith(f"/{kind.DESCRIPTOR.full_name}") and detail.Unpack(message):
            return message
    return message


def _bad_field(details: Iterable[any_pb2.Any]) -> str:
    violations = _first(details, error_details_pb2.BadRequest).field_violations
    return violations[0].field if violations else ""


def _retry_after_s(details: Iterable[any_pb2.Any]) -> float | None:
    if not any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details):
        return None
    delay = _first(details, error_details_pb2.RetryInfo).retry_delay
    return float(delay.seconds + delay.nanos / 1e9)
