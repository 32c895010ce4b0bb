"""Around every call: gate, request id, trace, deadline, metrics, and the one place where errors become status codes."""

import asyncio
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import structlog
from google.rpc import status_pb2
from grpc_status import rpc_status

from services.runtime import metrics
from services.runtime.caller import Caller, set_caller
from services.runtime.deadline import set_deadline
from services.runtime.errors import MekikiError, Unavailable
from services.runtime.gate import Gate, Visit
from services.runtime.logs import get_logger
from services.runtime.model_metrics import MODELS
from services.runtime.status import CODES, to_status
from services.runtime.traces import Tracing, current_trace_id, end_call

ENDLESS = {"/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}
VERSION_KEY = "mekiki-version"
REQUEST_ID_KEY = "x-request-id"
Context = grpc.aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str], ...]
if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler  # generic only to type checkers
_MAKE: dict[tuple[bool, bool], Callable[..., Handler]] = {  # (request streams, response streams)
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
_QUIET_STEPS = 5
_NAMES = {code.value[0]: code.name for code in CODES.values()}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the behaviour of every RPC, unary or stream, and knows when none is in flight."""

    def __init__(self, version: str, gate: Gate, tracing: Tracing | None = None) -> None:
        self._version = version
        self._gate = gate
        self._tracing = tracing or Tracing()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._endless: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._last_arrival_s = 0.0

    async def wait_until_quiet(self, quiet_s: float, timeout_s: float) -> None:
        """Returns once no call has come for `quiet_s`: those on their way have then reached their handlers.

        Quiet is counted in short steps that end in time: where the loop or the machine is busy, a call may wait unseen.
        """
        step_s = quiet_s / _QUIET_STEPS
        now_s = time.monotonic()
        end_s, quiet = now_s + timeout_s, 0
        while quiet < _QUIET_STEPS and now_s < end_s:
            begin_s = now_s
            await asyncio.sleep(step_s)
            now_s = time.monotonic()
            quiet = quiet + 1 if self._last_arrival_s < begin_s and now_s - begin_s < 2 * step_s else 0

    async def wait_until_idle(self) -> None:
        """Returns once no call is being answered, not counting streams that never end by themselves."""
        await self._idle.wait()

    def end_endless(self) -> None:
        """Ends the streams that never end by themselves."""
        self._ending = True
        for task in self._endless:
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the handler with the call's context around it; None passes on that nobody serves the RPC."""
        rpc = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        try:
            caller = self._gate.admit(rpc, handler_call_details.invocation_metadata)
        except MekikiError as error:
            return self._refuse(rpc, error)
        return self._wrap(rpc, handler, caller)

    def _refuse(self, rpc: str, error: MekikiError) -> Handler:
        async def refuse(_: object, context: Context) -> None:
            async with self._call(rpc, context, None):
                raise error

        # As a stream, whatever the RPC is, so that no message is waited for or read.
        return grpc.stream_stream_rpc_method_handler(refuse)

    def _wrap(self, rpc: str, handler: Handler, caller: Caller) -> Handler:
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        around = self._around_coroutine
        # A streaming handler may also be a coroutine that writes to the context, as health's Watch is.
        if inspect.isasyncgenfunction(inner):
            around = self._around_frames if handler.request_streaming else self._around_stream
        make = _MAKE[handler.request_streaming, handler.response_streaming]
        return make(around(rpc, inner, caller), handler.request_deserializer, handler.response_serializer)

    def _around_coroutine(self, rpc: str, inner: Any, caller: Caller) -> Any:  # noqa: ANN401 - any RPC's behaviour
        async def answer(request: Any, context: Context) -> object:  # noqa: ANN401
            async with self._call(rpc, context, caller, request) as visit:
                visit.note(request)
                visit.check(request)
                response = await inner(request, context)
                visit.note(response)
                return response

        return answer

    def _around_stream(self, rpc: str, inner: Any, caller: Caller) -> Any:  # noqa: ANN401 - as above
        async def answer(request: Any, context: Context) -> AsyncIterator[object]:  # noqa: ANN401
            async with self._call(rpc, context, caller, request) as visit:
                visit.check(request)
                async for response in inner(request, context):
                    yield response

        return answer

    def _around_frames(self, rpc: str, inner: Any, caller: Caller) -> Any:  # noqa: ANN401 - as above
        async def answer(frames: AsyncIterator[Any], context: Context) -> AsyncIterator[object]:
            async with self._call(rpc, context, caller, frames=True) as visit:
                async for response in visit.pass_frames(frames, lambda passed: inner(passed, context)):
                    yield response

        return answer

    @asynccontextmanager
    async def _call(
        self, rpc: str, context: Context, caller: Caller | None, request: object = None, *, frames: bool = False
    ) -> AsyncIterator[Visit]:
        request_id = _request_id(context)
        trailing = ((VERSION_KEY, self._version), (REQUEST_ID_KEY, request_id))
        context.set_trailing_metadata(trailing)
        span = self._tracing.start_call(rpc, context.invocation_metadata() or (), frames=frames)
        _set_context(rpc, context, caller, request_id)
        visit = Visit(self._gate, rpc, request_id, caller, context)
        start = time.monotonic()
        code = "OK"
        self._count(rpc, 1)
        try:
            yield visit
        except grpc.aio.AbortError:
            code = "ABORTED_BY_SERVICE"
            raise
        except Exception as error:  # noqa: BLE001 - the one place where errors become status codes
            status = to_status(error)
            code = _NAMES.get(status.code, "INTERNAL")
            if code == "INTERNAL":
                get_logger().error("call failed", exc_info=error)
            await _abort(context, status, trailing)
        except BaseException:
            code = "CANCELLED"
            if self._ending and rpc in ENDLESS:  # gRPC itself would leave the other end waiting
                await _abort(context, to_status(Unavailable("the server stops")), trailing)
            raise
        finally:
            self._count(rpc, -1)
            visit.write(code)
            _measure(rpc, request, code, time.monotonic() - start)
            end_call(span, code, request_id)

    def _count(self, rpc: str, change: int) -> None:
        metrics.CALLS_IN_FLIGHT.labels(rpc).inc(change)
        self._last_arrival_s = time.monotonic() if change > 0 else self._last_arrival_s
        task = asyncio.current_task()
        if rpc in ENDLESS and task is not None:
            (self._endless.add if change > 0 else self._endless.discard)(task)
        else:
            self._in_flight += change
            (self._idle.clear if self._in_flight else self._idle.set)()


def _set_context(rpc: str, context: Context, caller: Caller | None, request_id: str) -> None:
    """Tells all that is awaited beneath this call, and its log, what it belongs to."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id, trace_id=current_trace_id(), rpc=rpc)
    set_deadline(context.time_remaining())
    if caller is not None:
        set_caller(caller)


def _measure(rpc: str, request: object, code: str, seconds: float) -> None:
    metrics.CALLS.labels(rpc, code).inc()
    metrics.CALL_SECONDS.labels(rpc).observe(seconds)
    MODELS.count(rpc, request, code, seconds)
    get_logger().debug("call", code=code, seconds=round(seconds, 4))


async def _abort(context: Context, status: status_pb2.Status, trailing: Metadata) -> None:
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, (*trailing, *rich.trailing_metadata))


def _request_id(context: Context) -> str:
    """Returns the caller's id if it is a sane one, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable():
            return value
    return uuid.uuid4().hex
