"""What differs between the colours, for asyncio. Its twin is `synchronous.py`; nothing else is written twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from typing import ParamSpec, TypeVar, cast

import grpc
from grpc.aio import (
    Channel,
    StreamStreamCall,
    StreamStreamMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)

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
P = ParamSpec("P")

Input = Iterable[T] | AsyncIterable[T]
Metadata = tuple[tuple[str, str], ...]
Condition = asyncio.Condition
Worker = asyncio.Task[None]
sleep = asyncio.sleep


RETIRE_S = 3600.0
"""Calls that were under way when the certificates changed may go on for so long."""


class SecureChannel(RotatingChannel[Channel]):
    """A channel whose certificates may be replaced."""

    def __init__(self, open_channel: Callable[[grpc.ChannelCredentials], Channel], options: ClientOptions) -> None:
        self._retired: dict[asyncio.Task[None], Channel] = {}
        super().__init__(open_channel, options.credentials, self._close_later)

    async def close(self) -> None:
        """Ends all connections; calls under way are cancelled."""
        retired = dict(self._retired)
        for closing in retired:
            closing.cancel()
        await asyncio.gather(*retired, return_exceptions=True)
        for channel in (*retired.values(), self.current):
            await channel.close()

    def _close_later(self, channel: Channel) -> None:
        closing = asyncio.get_running_loop().create_task(channel.close(RETIRE_S))
        self._retired[closing] = channel
        closing.add_done_callback(self._retired.pop)


def open_channel(address: str, options: ClientOptions) -> Channel:
    """A connection to `address`, made when first used; belongs to the running event loop."""
    arguments = channel_arguments(address, options)
    if not options.credentials.is_secure:
        return grpc.aio.insecure_channel(address, options=arguments)
    channel = SecureChannel(
        lambda credentials: grpc.aio.secure_channel(address, credentials, options=arguments), options
    )
    return cast(Channel, channel)  # all that stubs and the client use of one


async def call_unary(
    method: UnaryUnaryMultiCallable[Request, Response], request: Request, timeout_s: float, metadata: Metadata
) -> tuple[Response, dict[str, str | bytes]]:
    """One attempt: the answer and the metadata that came with it."""
    call = method(request, timeout=timeout_s, metadata=metadata)
    return await call, {**dict(await call.initial_metadata()), **dict(await call.trailing_metadata())}


def open_exchange(
    method: StreamStreamMultiCallable[Request, Response],
    requests: AsyncIterator[Request],
    timeout_s: float,
    metadata: Metadata,
) -> StreamStreamCall[Request, Response]:
    """One bidirectional stream; gRPC reads `requests` in a task of its own."""
    return method(requests, timeout=timeout_s, metadata=metadata)


async def each(items: Input[T]) -> AsyncIterator[T]:
    """The items one by one, from either kind of iterable; a plain one runs on the event loop, so must be quick."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs what may read a file or compress an image without holding up the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


def spawn(job: Callable[[], Coroutine[None, None, None]]) -> Worker:
    """Starts `job` beside the caller."""
    return asyncio.create_task(job())


async def stop(worker: Worker) -> None:
    """Ends a worker, wherever it waits."""
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker
