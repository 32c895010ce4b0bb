"""Around every call: request id, deadline, metrics, and the one place where errors become status codes."""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from google.rpc import status_pb2
from grpc_status import rpc_status

from services.runtime import metrics
from services.runtime.deadline import set_deadline
from services.runtime.logs import get_logger
from services.runtime.status import CODES, to_status

VERSION_KEY = "mekiki-version"
REQUEST_ID_KEY = "x-request-id"
_NAMES = {code.value[0]: code.name for code in CODES.values()}


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Wraps the handler of every RPC, unary or stream."""

    def __init__(self, version: str) -> None:
        self._version = version

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Returns the handler with the call's context around it."""
        handler = await continuation(details)
        if handler is None:
            return None
        rpc = details.method
        if handler.response_streaming:
            inner = handler.stream_stream or handler.unary_stream

            async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:  # noqa: ANN401
                async with self._call(rpc, context):
                    async for response in inner(request, context):
                        yield response

            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(stream, handler.request_deserializer, handler.response_serializer)
        single = handler.stream_unary or handler.unary_unary

        async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: ANN401
            async with self._call(rpc, context):
                return await single(request, context)

        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(unary, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def _call(self, rpc: str, context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
        request_id = _request_id(context)
        trailing = ((VERSION_KEY, self._version), (REQUEST_ID_KEY, request_id))
        context.set_trailing_metadata(trailing)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id, rpc=rpc)
        set_deadline(context.time_remaining())
        start = time.monotonic()
        code = "OK"
        metrics.CALLS_IN_FLIGHT.labels(rpc).inc()
        try:
            yield
        except grpc.aio.AbortError:
            code = "ABORTED_BY_SERVICE"
            raise
        except Exception as error:  # noqa: BLE001 - the one place where errors become status codes
            status = to_status(error)
            code = _NAMES.get(status.code, "INTERNAL")
            if code == "INTERNAL":
                get_logger().error("call failed", exc_info=error)
            await self._abort(context, status, trailing)
        except BaseException:
            code = "CANCELLED"
            raise
        finally:
            metrics.CALLS_IN_FLIGHT.labels(rpc).dec()
            metrics.CALLS.labels(rpc, code).inc()
            metrics.CALL_SECONDS.labels(rpc).observe(time.monotonic() - start)
            get_logger().debug("call", code=code, seconds=round(time.monotonic() - start, 4))

    async def _abort(
        self, context: grpc.aio.ServicerContext, status: status_pb2.Status, trailing: tuple[tuple[str, str], ...]
    ) -> None:
        rich = rpc_status.to_status(status)
        await context.abort(rich.code, rich.details, (*trailing, *rich.trailing_metadata))


def _request_id(context: grpc.aio.ServicerContext) -> str:
    """Returns the caller's id if it is a sane one, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable():
            return value
    return uuid.uuid4().hex
