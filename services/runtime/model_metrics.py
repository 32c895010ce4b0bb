"""Figures by model. Names come from callers, so one counts only while a service knows that its model exists."""

from collections import OrderedDict

from prometheus_client import Counter, Histogram

from services.runtime.metrics import CALL_BUCKETS_S

KINDS = ("detector", "classifier", "object_detector", "segmenter")
"""The fields of requests that name a model."""

CALLS = Counter("mekiki_model_calls", "Calls and frames by model and status code.", ["rpc", "kind", "model", "code"])
SECONDS = Histogram(
    "mekiki_model_seconds",
    "Time from the start of a model's call or frame to its end.",
    ["rpc", "kind", "model"],
    buckets=CALL_BUCKETS_S,
)


class KnownModels:
    """The models of this process that have figures of their own.

    Args:
        limit: most of them; the one that was not met for the longest is forgotten, with its figures.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def meet(self, kind: str, name: str) -> None:
        """Says that a model exists: its calls count from here on, the present one included."""
        self._known[kind, name] = None
        self._known.move_to_end((kind, name))
        while len(self._known) > self._limit:
            self.forget(*next(iter(self._known)))

    def knows(self, kind: str, name: str) -> bool:
        """Whether its calls count."""
        return (kind, name) in self._known

    def forget(self, kind: str, name: str) -> None:
        """Says that a model is deleted, or no longer in memory; its series end."""
        if self._known.pop((kind, name), 0) is None:
            for metric in (CALLS, SECONDS):
                metric.remove_by_labels({"kind": kind, "model": name})

    def count(self, rpc: str, request: object, code: str, seconds: float) -> None:
        """Counts a call, or a frame of a stream, that has ended."""
        for kind in KINDS:
            name = getattr(request, kind, "")
            if isinstance(name, str) and self.knows(kind, name):
                CALLS.labels(rpc, kind, name, code).inc()
                SECONDS.labels(rpc, kind, name).observe(seconds)


MODELS = KnownModels()
"""As the metrics themselves, one of the process."""
