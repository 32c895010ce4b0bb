"""Waiting for what happens elsewhere."""

import time
from collections.abc import Callable


def wait_until(true: Callable[[], object], seconds: float, what: str, every_s: float = 0.2) -> float:
    """Returns after how many seconds it was true."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(every_s)
    return time.monotonic() - begun
