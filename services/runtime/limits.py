"""Rate limits: a bucket of tokens per caller (token bucket, as in RFC 2697: a rate, and a burst)."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.runtime.errors import Overloaded

BUCKETS = 10_000
"""Most callers that are remembered; those that have not called for long are forgotten first."""


@dataclass
class _Bucket:
    tokens: float
    seen_s: float


class RateLimits:
    """How often each caller may call.

    Args:
        per_s: calls and frames a second in the long run; 0 for no limit.
        burst: so many at once after a pause.
        clock: seconds, monotonic.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    @property
    def active(self) -> bool:
        """Whether there is a limit at all."""
        return self._per_s > 0

    def take(self, who: str) -> None:
        """Counts a call.

        Raises:
            Overloaded: it is one too many; reason RATE_LIMITED.
        """
        if not self.active:
            return
        now_s = self._clock()
        bucket = self._buckets.pop(who, None) or _Bucket(self._burst, now_s)
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.seen_s) * self._per_s)
        bucket.seen_s = now_s
        self._buckets[who] = bucket  # last in order, as the one seen last
        if len(self._buckets) > BUCKETS:
            self._buckets.pop(next(iter(self._buckets)))
        if bucket.tokens < 1:
            message = f"more than {self._per_s:g} calls a second of one caller; a burst may have {self._burst}"
            raise Overloaded(message, (1 - bucket.tokens) / self._per_s, reason="RATE_LIMITED")
        bucket.tokens -= 1
