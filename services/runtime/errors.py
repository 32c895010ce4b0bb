"""The errors a service raises, free of gRPC so that models can raise them too.

MekikiError
├── InvalidArgument      bad input: names field, limit and value
├── NotFound             an unknown name
├── AlreadyExists        a name that is taken
├── FailedPrecondition   right call, wrong moment: an untrained model, weights that are missing
├── Conflict             somebody else changed it first: read again, retry
├── Overloaded           a full queue: retry after `retry_after_s`
├── DataLoss             stored bytes are damaged
├── Cancelled            the caller gave up
├── DeadlineExceeded     the caller's time is over
├── Unavailable          a neighbour or the store cannot be reached: retry
├── Unauthenticated      the caller shows no token, or none that is good
└── PermissionDenied     the caller is known, but its role or its tenant does not allow it

`runtime/status.py` maps them to gRPC status codes in one table; the SDK maps them back.
"""


class MekikiError(Exception):
    """Root of all errors whose text may be shown to a caller. `reason` is stable and machine-readable."""

    reason = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(MekikiError):
    """Bad input; `field` is its path in the request, `message` names the limit and the value."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message


class NotFound(MekikiError):
    """There is no `kind` of that `name`."""

    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} does not exist")
        self.kind = kind
        self.name = name


class AlreadyExists(MekikiError):
    """A `kind` of that `name` is there already."""

    reason = "ALREADY_EXISTS"

    def __init__(self, kind: str, name: str, message: str = "") -> None:
        super().__init__(message or f"{kind} {name!r} exists already")
        self.kind = kind
        self.name = name


class FailedPrecondition(MekikiError):
    """The call is right but the state is not; `reason` says which state, such as WEIGHTS_MISSING."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Conflict(MekikiError):
    """Somebody else changed it first (an etag or a manifest number is no longer the latest)."""

    reason = "CONFLICT"


class Overloaded(MekikiError):
    """A queue is full, or a caller calls too often; nothing was started. Retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float, reason: str = "OVERLOADED") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.reason = reason


class DataLoss(MekikiError):
    """Stored bytes do not match their checksum or cannot be decoded."""

    reason = "DATA_LOSS"


class Cancelled(MekikiError):
    """The caller cancelled the work."""

    reason = "CANCELLED"


class DeadlineExceeded(MekikiError):
    """The deadline passed before the work was started or finished."""

    reason = "DEADLINE_EXCEEDED"


class Unavailable(MekikiError):
    """A neighbouring service or the object store cannot be reached just now."""

    reason = "UNAVAILABLE"


class Unauthenticated(MekikiError):
    """The caller shows no token, or none that is good; `reason` says which: TOKEN_MISSING, _EXPIRED or _INVALID."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PermissionDenied(MekikiError):
    """The caller is known but may not; `reason` says why: ROLE or TENANT."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
