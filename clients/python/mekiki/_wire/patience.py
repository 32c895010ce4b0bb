"""How long one is ready to wait."""

import time


class Patience:
    """A span of time that began when it was made."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self._ends - time.monotonic())

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.remaining_s() == 0.0
