"""A real receiver of OTLP over gRPC, which remembers the spans that come."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Seen:
    """A span that came."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    service: str
    attributes: dict[str, object] = field(hash=False)
    failed: bool
    seconds: float


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.port = 0
        self._spans: list[Seen] = []
        self._changed = threading.Condition()

    def Export(self, request, context):  # noqa: N802
        with self._changed:
            for resource in request.resource_spans:
                said = read_attributes(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self._spans += [read_span(span, str(said["service.name"])) for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spans(self) -> list[Seen]:
        with self._changed:
            return list(self._spans)

    def wait_for(self, name: str, trace_id: str = "", timeout_s: float = 60) -> Seen:
        """The first span of that name, as soon as it came."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for span in self._spans:
                    if span.name == name and span.trace_id.startswith(trace_id):
                        return span
                if not self._changed.wait(end_s - time.monotonic()):
                    raise TimeoutError(f"no span {name!r} among {sorted({span.name for span in self._spans})}")


def read_span(span, service: str) -> Seen:
    return Seen(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        attributes=read_attributes(span.attributes),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def read_attributes(pairs) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector on a free port, or on the one that was given."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
