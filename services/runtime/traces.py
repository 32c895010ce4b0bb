"""Traces through OpenTelemetry: from a call down to the calls and jobs that it causes.

The caller's `traceparent` (W3C Trace Context) is taken up and passed on whether or not spans are exported, and every
call has a trace id, so that the logs of all services are joined by it.
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass

import grpc
from google.rpc import status_pb2
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, NoOpTracer, Span, SpanContext, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_HEADERS = ("traceparent", "tracestate")
_NOISE = "/grpc."
"""Health and reflection, which probes ask every second."""
_SILENT = NoOpTracer()
_FORMAT = TraceContextTextMapPropagator()
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_NUMBERS = {code.name: code.value[0] for code in grpc.StatusCode}
_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Codes that mark a server's span as failed (OpenTelemetry, semantic conventions for gRPC); others are the caller's."""

_TRACER: ContextVar[Tracer] = ContextVar("tracer", default=_SILENT)

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Place:
    """A place in a trace, for spans that are put beneath it from elsewhere or later."""

    tracer: Tracer
    context: Context


class Tracing:
    """The traces of one process. `close` at the end.

    Args:
        endpoint: the collector (OTLP over gRPC), as http://host:port or https://host:port; empty exports nothing.
        ratio: share of the traces that begin here that are recorded; those of callers are as the caller decided.
        service: what the spans say that they come from.
    """

    def __init__(self, endpoint: str = "", ratio: float = 1.0, service: str = "mekiki") -> None:
        self._export = None
        self._tracer: Tracer = _SILENT
        if endpoint:
            from services.runtime.export import open_export  # noqa: PLC0415 - half a second that only exporting needs

            self._export = open_export(endpoint, ratio, service)
            self._tracer = self._export.get_tracer("mekiki")

    def start_call(self, rpc: str, metadata: Iterable[tuple[str, str | bytes]], *, frames: bool) -> Span:
        """Starts the span of a call being answered; what its context does from here on lies beneath it.

        Beneath a stream of frames nothing is recorded, since it may last for a shift; only the trace id goes along.
        """
        sent = {key: value for key, value in metadata if key in _HEADERS and isinstance(value, str)}
        tracer = _SILENT if rpc.startswith(_NOISE) else self._tracer
        span = tracer.start_span(rpc[1:], _enter(tracer, sent), SpanKind.SERVER, _describe(rpc[1:]))
        _stand(tracer, _hush(span) if frames else span)
        return span

    @contextmanager
    def follow(self, name: str, traceparent: str, operation: str) -> Iterator[None]:
        """Continues in a worker the trace of the call that started its operation."""
        place = _enter(self._tracer, {"traceparent": traceparent})
        span = self._tracer.start_span(name, place, SpanKind.CONSUMER, {"mekiki.operation": operation})
        token = _stand(self._tracer, span)
        try:
            yield
        except BaseException as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            contexts.detach(token)
            span.end()

    def close(self) -> None:
        """Sends what has not been sent; a collector that is gone delays this by 3 s at most."""
        if self._export is not None:
            self._export.shutdown()


def end_call(span: Span, code: str, request_id: str) -> None:
    """Ends the span of a call that was answered with the status of that name."""
    span.set_attribute("mekiki.request_id", request_id)
    span.set_attribute("rpc.grpc.status_code", _NUMBERS.get(code, _NUMBERS["UNKNOWN"]))
    if code in _FAULTS:
        span.set_status(StatusCode.ERROR, code)
    span.end()


def current_place() -> Place:
    """Where this context stands in its trace."""
    return Place(_TRACER.get(), contexts.get_current())


def recorded_place() -> Place | None:
    """The same where it is recorded, else None."""
    return current_place() if trace.get_current_span().get_span_context().trace_flags.sampled else None


def current_trace_id() -> str:
    """The trace that this context belongs to, as 32 digits; empty outside of calls and jobs."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""


def current_traceparent() -> str:
    """What whoever continues this trace must be told; empty outside of calls and jobs."""
    return _tell(contexts.get_current()).get("traceparent", "")


def add_span(place: Place | None, name: str, start_s: float, end_s: float, **attributes: int | str) -> None:
    """Puts a span beneath a place for what is over already; times as of `time.monotonic()`."""
    if place is None:
        return
    epoch_ns = time.time_ns() - time.monotonic_ns()
    span = place.tracer.start_span(name, place.context, attributes=attributes, start_time=epoch_ns + int(start_s * 1e9))
    span.end(epoch_ns + int(end_s * 1e9))


@contextmanager
def surround_call(rpc: str, place: Place | None = None) -> Iterator[Metadata]:
    """A span around a call to the service next door; gives the headers that continue the trace there.

    Args:
        rpc: full name, such as "mekiki.codec.v1.CodecService/ReadItems".
        place: where it is called from; default where this context stands.
    """
    place = place or current_place()
    span = place.tracer.start_span(rpc, place.context, SpanKind.CLIENT, _describe(rpc))
    code = "OK"
    try:
        yield tuple(_tell(trace.set_span_in_context(span, place.context)).items())
    except GeneratorExit:  # whoever reads a stream has had enough
        raise
    except BaseException as error:
        code = _name_code(error)
        span.set_status(StatusCode.ERROR, code)
        raise
    finally:
        span.set_attribute("rpc.grpc.status_code", _NUMBERS[code])
        span.end()


def _enter(tracer: Tracer, sent: Mapping[str, str]) -> Context:
    """The context that the caller told, or one for a trace that begins here."""
    told = _FORMAT.extract(sent, Context())
    if tracer is not _SILENT or trace.get_current_span(told).get_span_context().is_valid:
        return told
    made = SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False)
    return trace.set_span_in_context(NonRecordingSpan(made), told)


def _stand(tracer: Tracer, span: Span) -> Token[Context]:
    """Makes what this context does from here on lie beneath a span; a call's own context ends with the call."""
    _TRACER.set(tracer)
    return contexts.attach(trace.set_span_in_context(span))


def _hush(span: Span) -> Span:
    """The same place in the trace, with nothing recorded beneath it."""
    context = span.get_span_context()
    return NonRecordingSpan(
        SpanContext(context.trace_id, context.span_id, is_remote=False, trace_state=context.trace_state)
    )


def _tell(context: Context) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier, context)
    return carrier


def _describe(rpc: str) -> dict[str, str]:
    service, _, method = rpc.partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def _name_code(error: BaseException) -> str:
    """The code of an error as the SDK raises it."""
    status = getattr(error, "status", None)
    if isinstance(status, status_pb2.Status):
        return _NAMES.get(status.code, "UNKNOWN")
    return "UNKNOWN" if isinstance(error, Exception) else "CANCELLED"
