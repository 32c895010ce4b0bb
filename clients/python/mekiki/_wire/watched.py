"""What is read from files, and read again once they have changed: certificates and tokens are replaced while we run."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""Least time between two looks at the files."""

_Stamp = tuple[tuple[int, int, int], ...]


def _ignore(_failure: Exception) -> None:
    """Keeps quiet."""


class Watched(Generic[T]):
    """A value that is made from files; any thread may ask for it.

    Args:
        paths: the files; who follows a link sees what it points to, so a swapped link is a change.
        read: makes the value; its OSError and ValueError are what it may raise.
        on_failure: told once when changed files cannot be used; the last good value stays until they can.

    Raises:
        OSError: a file cannot be read at the start.
        ValueError: a file makes no sense at the start.
    """

    def __init__(
        self, paths: Sequence[Path], read: Callable[[], T], on_failure: Callable[[Exception], None] = _ignore
    ) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._stamp = self._failed = self._look()  # before the reading: what changes in between is seen next time
        self._value = read()
        self._next_look_s = time.monotonic() + LOOK_EVERY_S

    def value(self) -> T:
        """The value, at most a second older than the files."""
        with self._lock:
            if time.monotonic() >= self._next_look_s:
                self._next_look_s = time.monotonic() + LOOK_EVERY_S
                self._renew()
            return self._value

    def _renew(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        try:
            self._value = self._read()
        except (OSError, ValueError) as failure:
            if stamp != self._failed:
                self._on_failure(failure)
            self._failed = stamp
        else:
            self._stamp = stamp

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
