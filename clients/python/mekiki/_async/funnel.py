"""The one way every RPC takes: deadline, request id, retries, errors."""

from __future__ import annotations  # gRPC's multi-callables are generic for type checkers only

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from mekiki import errors
from mekiki._wire import asynchronous as wire
from mekiki._wire.policy import START_TIMEOUT_S, Call, ClientOptions, rpc_of, verb_of

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Funnel:
    """Makes calls as the options say; holds no connection."""

    def __init__(self, options: ClientOptions) -> None:
        self.options = options

    async def unary(
        self,
        method: wire.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None,
    ) -> Response:
        """Calls until it is answered, not worth a retry, or `timeout_s` (default by verb) is over."""
        verb = verb_of(rpc_of(request))
        call = Call(self.options, timeout_s or self.options.timeout_s or verb.timeout_s, repeatable=verb.repeatable)
        return (await self.answer(method, request, call))[0]

    async def start(
        self,
        method: wire.UnaryUnaryMultiCallable[Request, operations_pb2.Operation],
        request: Request,
        timeout_s: float | None,
    ) -> operations_pb2.Operation:
        """Starts long work; never twice, so only what surely was not sent is sent again."""
        call = Call(self.options, timeout_s or self.options.timeout_s or START_TIMEOUT_S, repeatable=False)
        return (await self.answer(method, request, call))[0]

    async def answer(
        self, method: wire.UnaryUnaryMultiCallable[Request, Response], request: Request, call: Call
    ) -> tuple[Response, dict[str, str | bytes]]:
        """The answer, and the metadata that came with it."""
        with call.surround(request):
            while True:
                try:
                    return await wire.call_unary(method, request, call.remaining_s(), call.metadata)
                except grpc.RpcError as failure:
                    pause_s = call.pause_s(errors.from_rpc(failure, call.request_id))
                await wire.sleep(pause_s)

    async def read(
        self,
        method: wire.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None,
        identify: Callable[[Response], str] | None = None,
    ) -> AsyncGenerator[Response, None]:
        """The answers of a stream, read as they are asked for.

        After the first answer it is begun again only where `identify` tells answers apart: those that came are then
        left out. Without it the first answer ends all retries.
        """
        call = Call(self.options, timeout_s or verb_of(rpc_of(request)).timeout_s, repeatable=True)
        with call.surround(request):
            async with aclosing(self._read_on(method, request, call, identify)) as responses:
                async for response in responses:
                    yield response

    async def _read_on(
        self,
        method: wire.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        call: Call,
        identify: Callable[[Response], str] | None,
    ) -> AsyncGenerator[Response, None]:
        came: set[str] = set()
        while True:
            stream = method(request, timeout=call.remaining_s(), metadata=call.metadata)
            try:
                async for response in stream:
                    if identify is None:
                        call.repeatable = False
                    elif (known := identify(response)) in came:
                        continue
                    else:
                        came.add(known)
                        call.progress()
                    yield response
            except grpc.RpcError as failure:
                pause_s = call.pause_s(errors.from_rpc(failure, call.request_id))
            else:
                return
            finally:
                stream.cancel()
            await wire.sleep(pause_s)
