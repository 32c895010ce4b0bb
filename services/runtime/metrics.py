"""Prometheus metrics of the runtime; each service's models add their own."""

from prometheus_client import Counter, Gauge, Histogram

CALL_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

CALLS = Counter("mekiki_calls", "Calls by RPC and status code.", ["rpc", "code"])
CALL_SECONDS = Histogram("mekiki_call_seconds", "Time from a call's start to its end.", ["rpc"], buckets=CALL_BUCKETS_S)
CALLS_IN_FLIGHT = Gauge("mekiki_calls_in_flight", "Calls that are being answered.", ["rpc"])
FRAME_ERRORS = Counter("mekiki_frame_errors", "Frames of streams that failed, by status code.", ["code"])
QUEUE_DEPTH = Gauge("mekiki_queue_depth", "Requests waiting for a batch.", ["batcher"])
QUEUE_SECONDS = Histogram(
    "mekiki_queue_seconds", "Time a request waited for its batch.", ["batcher"], buckets=CALL_BUCKETS_S
)
BATCH_SIZE = Histogram("mekiki_batch_size", "Requests computed together.", ["batcher"], buckets=_SIZES)
COMPUTE_SECONDS = Histogram("mekiki_compute_seconds", "Time a batch computed.", ["batcher"], buckets=CALL_BUCKETS_S)
REFUSED = Counter("mekiki_refused", "Requests not started: queue full, or time over.", ["batcher", "why"])
