"""What every call gets: a deadline, a request id, and retries where a retry is safe. No input or output here."""

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType

from google.protobuf.message import Message

from mekiki._wire.credentials import Credentials
from mekiki._wire.patience import Patience
from mekiki.errors import MekikiError, Overloaded, Unavailable

REQUEST_ID_KEY = "x-request-id"
VERSION_KEY = "mekiki-version"

# What gRPC says when no connection could be made: the request never left, so any call may be repeated.
_NEVER_SENT = (
    "failed to connect",
    "connections to all backends failing",
    "DNS resolution failed",
    "empty address list",
)


@dataclass(frozen=True)
class Verb:
    """What the first word of an RPC's name tells about it."""

    timeout_s: float
    """Deadline of the whole call with its retries, in seconds, unless the caller gives one."""

    repeatable: bool = True
    """Whether a request that may have reached the service can be sent again without harm."""


VERBS: Mapping[str, Verb] = MappingProxyType(
    {
        "Get": Verb(15),
        "List": Verb(30),
        "Check": Verb(5),
        "Create": Verb(15, repeatable=False),
        "Update": Verb(15, repeatable=False),
        "Delete": Verb(60, repeatable=False),
        "Read": Verb(3600),
        "Preview": Verb(3600),
        "Enroll": Verb(600),
        "Forget": Verb(60),
        "Prepare": Verb(60),
        "Classify": Verb(60),
        "Explain": Verb(60),
        "Filter": Verb(60),
        "Detect": Verb(60),
        "Segment": Verb(120),
        "Fit": Verb(60),
        "Annotate": Verb(120),
        "Score": Verb(60),
        "Cancel": Verb(15),
        "Wait": Verb(60),
    }
)
_OTHER = Verb(60, repeatable=False)

START_TIMEOUT_S = 120.0
"""Deadline of starting long work, of which the first has the server load its networks' library; the work has none."""

STREAM_TIMEOUT_S = 24 * 3600.0
"""Deadline of a stream of frames unless the caller gives one: a line's camera runs for a shift, not for ever."""


def verb_of(rpc: str) -> Verb:
    """What is known of an RPC by the first word of its name; a careful guess for a verb not in the table."""
    ends = [i for i, letter in enumerate(rpc) if letter.isupper()][1:2] or [len(rpc)]
    return VERBS.get(rpc[: ends[0]], _OTHER)


def rpc_of(request: Message) -> str:
    """The RPC that a request belongs to: every RPC has a request of its own, named after it."""
    return request.DESCRIPTOR.name.removesuffix("Request")


def path_of(request: Message) -> str:
    """The full name of that RPC, such as "mekiki.codec.v1.CodecService/GetDataset"."""
    rpc, file = rpc_of(request), request.DESCRIPTOR.file
    services = [service for service in file.services_by_name.values() if rpc in service.methods_by_name]
    return f"{services[0].full_name if services else file.package}/{rpc}"


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again: after UNAVAILABLE, and after RESOURCE_EXHAUSTED that says when to come back."""

    attempts: int = 8
    """Calls made in all, the first included; 1 turns retries off."""

    initial_s: float = 0.1
    """Longest wait before the second attempt, in seconds."""

    factor: float = 2.0
    """How much longer the next wait may be than the one before."""

    longest_s: float = 5.0
    """No wait is longer, in seconds, except where the service asks for one."""

    draw: Callable[[], float] = field(default=random.random, repr=False)
    """Jitter in [0, 1): many clients that lost the same server must not return in step."""

    def wait_s(self, error: MekikiError, attempt: int, *, repeatable: bool) -> float | None:
        """Seconds to wait after failed attempt number `attempt` (the first is 1); None to give up."""
        if attempt >= self.attempts or not _may_retry(error, repeatable=repeatable):
            return None
        backoff = min(self.longest_s, self.initial_s * self.factor ** (attempt - 1))
        # Half fixed, half drawn: never at once, never in step. What the service asks for is the least.
        return (error.retry_after_s or 0.0) + backoff * (0.5 + 0.5 * self.draw())


def _may_retry(error: MekikiError, *, repeatable: bool) -> bool:
    if isinstance(error, Overloaded):
        return error.retry_after_s is not None
    return isinstance(error, Unavailable) and (repeatable or _never_sent(error))


def _never_sent(error: Unavailable) -> bool:
    return error.retry_after_s is not None or any(words in error.message for words in _NEVER_SENT)


def _new_request_id() -> str:
    return uuid.uuid4().hex


Metadata = tuple[tuple[str, str], ...]


def _leave_alone(_: str) -> AbstractContextManager[Metadata]:
    return nullcontext(())


@dataclass(frozen=True)
class ClientOptions:
    """Everything about a client that is not its address."""

    timeout_s: float | None = None
    """Deadline of every unary call, in seconds; None takes the default of the call's verb."""

    retry: RetryPolicy = RetryPolicy()
    """When a failed call is tried again."""

    window: int = 16
    """Frames of a stream under way at once: input is pulled no further ahead than this."""

    max_message_bytes: int = 64 * 1024 * 1024
    """Largest message sent or received; a raw frame of 5 megapixels in colour is 15 MB."""

    keepalive_s: float = 30.0
    """A connection with calls under way that is silent for so long is probed; servers bear it once a second."""

    metadata: Metadata = field(default=(), repr=False)
    """Sent with every call."""

    credentials: Credentials = field(default_factory=Credentials)
    """Certificates and token; the default is neither."""

    request_id: Callable[[], str] = _new_request_id
    """Gives the id of a call; a service passes the id of the call it is serving."""

    around: Callable[[str], AbstractContextManager[Metadata]] = field(default=_leave_alone, repr=False)
    """Makes what surrounds a call with all its attempts, such as a span: given the RPC's full name, a context manager
    whose value is sent along and which sees the error that the call ends with. Streams of frames have none."""


DEFAULT_OPTIONS = ClientOptions()


class Call:
    """One call on its way: its deadline, its id and the attempts made so far."""

    def __init__(self, options: ClientOptions, timeout_s: float, *, repeatable: bool) -> None:
        self.repeatable = repeatable
        self.request_id = options.request_id()
        self._options = options
        self._retry = options.retry
        self._patience = Patience(timeout_s)
        self._attempt = 0
        self._surroundings: Metadata = ()

    @contextmanager
    def surround(self, request: Message) -> Iterator[None]:
        """Puts around this call what the options say."""
        with self._options.around(path_of(request)) as self._surroundings:
            yield

    @property
    def metadata(self) -> Metadata:
        """What the next attempt carries: a token may have been replaced since the last one."""
        options = self._options
        credentials = options.credentials.metadata()
        return (*options.metadata, *credentials, (REQUEST_ID_KEY, self.request_id), *self._surroundings)

    def remaining_s(self) -> float:
        """Seconds until the deadline, never negative."""
        return self._patience.remaining_s()

    def pause_s(self, error: MekikiError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            MekikiError: the given one, when there is to be no next attempt or the deadline comes first.
        """
        self._attempt += 1
        wait_s = self._retry.wait_s(error, self._attempt, repeatable=self.repeatable)
        if wait_s is None or wait_s >= self.remaining_s():
            raise error from None
        return wait_s

    def progress(self) -> None:
        """An answer came: what fails next fails for the first time."""
        self._attempt = 0
