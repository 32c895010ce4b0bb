"""The deadline of the call being answered, known to whatever is awaited beneath it."""

import time
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("mekiki_deadline", default=None)


def set_deadline(remaining_s: float | None) -> None:
    """Sets the deadline of this call, `remaining_s` seconds from now; None means none."""
    _deadline.set(None if remaining_s is None else time.monotonic() + remaining_s)


def current_deadline() -> float | None:
    """Returns the deadline as a value of `time.monotonic()`, or None."""
    return _deadline.get()
