"""Streams of frames: input pulled no further ahead than the window, answers in order, broken connections resumed."""

from __future__ import annotations  # gRPC's multi-callables are generic for type checkers only

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import grpc
from google.rpc import status_pb2

from mekiki import errors
from mekiki._values.frame import Answer, Frame
from mekiki._wire import asynchronous as wire
from mekiki._wire.policy import STREAM_TIMEOUT_S, Call, ClientOptions


@dataclass(frozen=True)
class Travel:
    """How a stream is to travel."""

    options: ClientOptions
    window: int
    timeout_s: float

    @classmethod
    def of(cls, options: ClientOptions, window: int | None, timeout_s: float | None) -> Travel:
        """What the caller asked for, else what the client's options say.

        Raises:
            ValueError: the window is not positive.
        """
        if window is not None and window < 1:
            raise ValueError(f"window must be 1 or more, not {window}")
        return cls(options, window or options.window, timeout_s or STREAM_TIMEOUT_S)


class RequestFrame(Protocol):
    """A request of a stream."""

    id: str


class ResponseFrame(Protocol):
    """An answer of a stream: a response or the frame's own error."""

    id: str

    @property
    def error(self) -> status_pb2.Status: ...
    def WhichOneof(self, oneof_group: Literal["result"]) -> str | None: ...  # noqa: N802 -- protobuf's name


Request = TypeVar("Request", bound=RequestFrame)
Response = TypeVar("Response", bound=ResponseFrame)
Source = TypeVar("Source")
Value = TypeVar("Value")


class Outbox(Generic[Request]):
    """Frames that are not answered yet, at most `window` of them, in order.

    One worker fills it from the caller's iterable; the sender of the stream that is open reads it. When a connection
    breaks, a new sender begins with the oldest frame that has no answer, and the old one ends.
    """

    def __init__(self, requests: wire.Input[Request], window: int) -> None:
        self._requests = requests
        self._window = window
        self._changed = wire.Condition()
        self._frames: deque[Request] = deque()
        self._sent = 0  # of the frames, by the sender that is current
        self._sender = 0
        self._ended = False
        self._closed = False
        self.failure: Exception | None = None

    async def fill(self) -> None:
        """Pulls the caller's iterable, one frame at a time, whenever there is room."""
        try:
            async for request in wire.each(self._requests):
                if not await self._put(request):
                    break
        except Exception as failure:  # noqa: BLE001 -- the caller's own; raised where the caller can see it
            self.failure = failure
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def _put(self, request: Request) -> bool:
        """Stores a frame and waits until there is room for another; False when nobody wants one."""
        async with self._changed:
            self._frames.append(request)
            self._changed.notify_all()
            while len(self._frames) >= self._window and not self._closed:
                await self._changed.wait()
            return not self._closed

    async def begin(self) -> int:
        """The number of a new sender; the one before it ends."""
        async with self._changed:
            self._sender += 1
            self._sent = 0
            self._changed.notify_all()
            return self._sender

    async def send(self, sender: int) -> AsyncIterator[Request]:
        """The frames of one stream, oldest unanswered first."""
        while True:
            async with self._changed:
                while self._sender == sender and self._sent == len(self._frames) and not self._ended:
                    await self._changed.wait()
                if self._sender != sender or self._sent == len(self._frames):
                    return
                frame = self._frames[self._sent]
                self._sent += 1
            yield frame

    async def take(self, tag: str) -> None:
        """Removes the oldest frame, whose answer came and must carry its tag."""
        async with self._changed:
            if self._sent == 0 or self._frames[0].id != tag:
                raise errors.Internal(f"the service answered frame {tag!r} out of order")
            self._sent -= 1
            self._frames.popleft()
            self._changed.notify_all()

    async def is_empty(self) -> bool:
        """Whether every frame has its answer and none is to come."""
        async with self._changed:
            return self._ended and not self._frames

    async def close(self) -> None:
        """Wakes and ends everybody."""
        async with self._changed:
            self._closed = self._ended = True
            self._sender += 1
            self._changed.notify_all()


async def exchange(
    method: wire.StreamStreamMultiCallable[Request, Response],
    requests: wire.Input[Request],
    travel: Travel,
) -> AsyncGenerator[Response, None]:
    """One answer a request, in order.

    At most `travel.window` requests are under way, and no more are pulled from `requests`. A connection that breaks
    is made again and the requests without an answer are sent again: every RPC of this kind may be repeated. An
    exception of `requests` itself is raised after the answers to what came before it.
    """
    call = Call(travel.options, travel.timeout_s, repeatable=True)
    outbox = Outbox(requests, travel.window)
    worker = wire.spawn(outbox.fill)
    try:
        while not await outbox.is_empty():
            pause_s = 0.0
            try:
                async with aclosing(_attempt(method, outbox, call)) as responses:
                    async for response in responses:
                        yield response
            except errors.MekikiError as error:
                pause_s = call.pause_s(error)
            await wire.sleep(pause_s)
    finally:
        await outbox.close()
        await wire.stop(worker)
    if outbox.failure is not None:
        raise outbox.failure


async def _attempt(
    method: wire.StreamStreamMultiCallable[Request, Response], outbox: Outbox[Request], call: Call
) -> AsyncGenerator[Response, None]:
    """One stream, until every frame is answered or the connection breaks."""
    frames = outbox.send(await outbox.begin())
    stream = wire.open_exchange(method, frames, call.remaining_s(), call.metadata)
    try:
        async for response in stream:
            await outbox.take(response.id)
            call.progress()
            yield response
        if not await outbox.is_empty():
            raise errors.Unavailable("the service ended the stream before all frames were answered")
    except grpc.RpcError as failure:
        raise errors.from_rpc(failure, call.request_id) from None
    finally:
        stream.cancel()


async def answer_frames(
    method: wire.StreamStreamMultiCallable[Request, Response],
    requests: wire.Input[Request],
    convert: Callable[[Response], Value],
    travel: Travel,
) -> AsyncGenerator[Answer[Value], None]:
    """`exchange` with answers as values; a frame's own error is in its answer."""
    async with aclosing(exchange(method, requests, travel)) as responses:
        async for response in responses:
            if response.WhichOneof("result") == "error":
                yield Answer(response.id, None, errors.from_status(response.error))
            else:
                yield Answer(response.id, convert(response), None)


async def tag_frames(values: wire.Input[Any], make: Callable[[str, Source], Request]) -> AsyncIterator[Request]:
    """A request for each value, made where it may block.

    It is tagged with the caller's id where the value is a Frame, else with the running number.
    """
    number = 0
    async for value in wire.each(values):
        frame = value if isinstance(value, Frame) else Frame(value, str(number))
        yield await wire.run_blocking(make, frame.id, frame.value)
        number += 1
