"""Where spans go: to a collector, in the background. What it does not take is dropped and holds nobody up."""

import logging
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from services.runtime.logs import get_logger

EXPORT_TIMEOUT_S = 3.0
"""Longest time for one batch, with its retries; also what a stop may take where the collector is gone."""
PAUSE_S = 10.0
"""After a failure, spans are dropped for so long before the collector is tried again."""
QUEUE_SPANS = 4096
"""Most spans that wait; the oldest are dropped."""


class PatientExporter(SpanExporter):
    """Hands spans to another exporter. While that fails it drops them, and says so once."""

    def __init__(self, exporter: SpanExporter, endpoint: str, pause_s: float = PAUSE_S) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._pause_s = pause_s
        self._again_s = 0.0
        self._dropped = 0
        self._log = get_logger()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports or drops; never raises."""
        if self._dropped and time.monotonic() < self._again_s:
            self._dropped += len(spans)
            return SpanExportResult.FAILURE
        result = self._try(spans)
        if result is SpanExportResult.SUCCESS:
            self._note_success()
        else:
            self._note_failure(len(spans))
        return result

    def shutdown(self) -> None:
        """Ends the connection."""
        self._exporter.shutdown()

    def _try(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            return self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next batch has its chance
            self._log.debug("export failed", error=type(error).__name__)
            return SpanExportResult.FAILURE

    def _note_success(self) -> None:
        if self._dropped:
            self._log.info("spans are exported again", endpoint=self._endpoint, dropped=self._dropped)
        self._dropped = 0

    def _note_failure(self, count: int) -> None:
        if not self._dropped:
            self._log.warning("spans are dropped: the collector does not take them", endpoint=self._endpoint)
        self._dropped += count
        self._again_s = time.monotonic() + self._pause_s


def open_export(endpoint: str, ratio: float, service: str) -> TracerProvider:
    """Begins to export in a thread of its own.

    Certificates and headers of the collector are OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_HEADERS), read here once.

    Args:
        endpoint: http://host:port or https://host:port.
        ratio: share of the traces that begin here that are recorded.
        service: service.name of the spans.
    """
    own = logging.getLogger("opentelemetry")  # it would write a plain line for every batch that fails
    own.addHandler(logging.NullHandler())
    own.propagate = False
    resource = Resource.create({"service.name": service, "service.namespace": "mekiki"})
    provider = TracerProvider(ParentBased(TraceIdRatioBased(ratio)), resource, shutdown_on_exit=False)
    sender = OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(
        BatchSpanProcessor(PatientExporter(sender, endpoint), QUEUE_SPANS, schedule_delay_millis=1000)
    )
    return provider
