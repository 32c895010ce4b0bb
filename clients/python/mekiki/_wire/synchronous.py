"""What differs between the colours, for threads. Its twin is `asynchronous.py`; nothing else is written twice."""

from __future__ import annotations  # gRPC's multi-callables are generic for type checkers only

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, Protocol, TypeVar, cast

import grpc
from grpc import Channel, StreamStreamMultiCallable, UnaryStreamMultiCallable, UnaryUnaryMultiCallable

from mekiki._wire.channel import channel_arguments
from mekiki._wire.policy import ClientOptions
from mekiki._wire.rotation import RotatingChannel

__all__ = [
    "Channel",
    "Condition",
    "Input",
    "Metadata",
    "StreamStreamMultiCallable",
    "UnaryStreamMultiCallable",
    "UnaryUnaryMultiCallable",
    "Worker",
    "call_unary",
    "each",
    "open_channel",
    "open_exchange",
    "run_blocking",
    "sleep",
    "spawn",
    "stop",
]

Request = TypeVar("Request")
Response = TypeVar("Response")
T = TypeVar("T")
Answers_co = TypeVar("Answers_co", covariant=True)
P = ParamSpec("P")

Input = Iterable[T]
Metadata = tuple[tuple[str, str], ...]
Condition = threading.Condition
Worker = threading.Thread
sleep = time.sleep


class Exchange(Protocol[Answers_co]):
    """A bidirectional stream under way."""

    def __iter__(self) -> Iterator[Answers_co]: ...
    def cancel(self) -> bool: ...


class SecureChannel(RotatingChannel[Channel]):
    """A channel whose certificates may be replaced."""

    def __init__(self, open_channel: Callable[[grpc.ChannelCredentials], Channel], options: ClientOptions) -> None:
        self._retired: Channel | None = None
        super().__init__(open_channel, options.credentials, self._close_one_later)

    def close(self) -> None:
        """Ends all connections; calls under way are cancelled."""
        if self._retired is not None:
            self._retired.close()
        self.current.close()

    def _close_one_later(self, channel: Channel) -> None:
        """Calls may be under way on it until the certificates change once more."""
        if self._retired is not None:
            self._retired.close()
        self._retired = channel


def open_channel(address: str, options: ClientOptions) -> Channel:
    """A connection to `address`, made when first used; shared by all threads."""
    arguments = channel_arguments(address, options)
    if not options.credentials.is_secure:
        return grpc.insecure_channel(address, options=arguments)
    channel = SecureChannel(lambda credentials: grpc.secure_channel(address, credentials, options=arguments), options)
    return cast(Channel, channel)  # all that stubs and the client use of one


def call_unary(
    method: UnaryUnaryMultiCallable[Request, Response], request: Request, timeout_s: float, metadata: Metadata
) -> tuple[Response, dict[str, str | bytes]]:
    """One attempt: the answer and the metadata that came with it."""
    response, call = method.with_call(request, timeout=timeout_s, metadata=metadata)
    return response, {**dict(call.initial_metadata()), **dict(call.trailing_metadata())}


def open_exchange(
    method: StreamStreamMultiCallable[Request, Response],
    requests: Iterator[Request],
    timeout_s: float,
    metadata: Metadata,
) -> Exchange[Response]:
    """One bidirectional stream; gRPC reads `requests` in a thread of its own."""
    return method(requests, timeout=timeout_s, metadata=metadata)


def each(items: Input[T]) -> Iterator[T]:
    """The items one by one."""
    yield from items


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs what may read a file or compress an image, in the caller's thread."""
    return function(*args, **kwargs)


def spawn(job: Callable[[], None]) -> Worker:
    """Starts `job` beside the caller; it never keeps the process alive."""
    worker = threading.Thread(target=job, name="mekiki-input", daemon=True)
    worker.start()
    return worker


def stop(worker: Worker) -> None:
    """Does not wait: a thread cannot be interrupted while the caller's own iterator blocks it, so it ends by itself."""
    del worker
