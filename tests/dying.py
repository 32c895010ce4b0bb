"""Processes that die of SIGKILL at their k-th step. For programs that fork: a test's own process has threads.

A step is whatever reaches the file system: an open, a sync, a link, a rename, a removal, a new folder; the process is
killed before it.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

STEPS = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def run_until_killed(work: Callable[[Callable[[str], None]], None]) -> list[str]:
    """Runs `work(say)` in a process of its own, which must be killed in it; returns the lines it said until then."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(lambda line: _write(writing, f"{line}\n"))
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as lines:
        said = lines.read().splitlines()
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        raise SystemExit("the process ended by itself")
    return said


def die_before_step(number: int) -> None:
    """Lets this process live for so many steps less one, counted from now."""
    left, sync = number, os.fsync

    def step(event: str, arguments: tuple[Any, ...] = ()) -> None:
        nonlocal left
        if event in STEPS and not (event == "open" and arguments[0] == "/dev/null"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def sync_step(descriptor: int) -> None:
        step("open", ("fsync",))
        sync(descriptor)

    sys.addaudithook(step)
    os.fsync = sync_step  # type: ignore[assignment] # a sync raises no audit event


def _write(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode())
