"""A process of its own for work that must not share ours: it leaks memory, or it holds the interpreter for seconds.

`Child` starts `python -m MODULE ARGUMENTS...`, whose `main` calls `serve`. Both talk over the child's standard input
and output in frames: a length (little-endian, 64 bits) and as many bytes. An empty frame says that the child is ready.
"""

import contextlib
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services.runtime.errors import Unavailable

_PAGE_BYTES = 4096
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class ChildLimits:
    """When a child is replaced, given up or let go.

    Attributes:
        answers: most requests that one child answers.
        memory_bytes: resident size past which it is replaced.
        start_timeout_s: longest time until it is ready.
        answer_timeout_s: longest time an answer may take.
        idle_s: it ends after this time without a request.
    """

    answers: int = 500
    memory_bytes: int = 1 << 30
    start_timeout_s: float = 120.0
    answer_timeout_s: float = 60.0
    idle_s: float = 300.0


class Child:
    """Asks a child process, started when first asked. Thread-safe: one request at a time.

    Args:
        name: what it is, for the error.
        module: what it runs.
        arguments: its command line.
        environment: variables that it gets besides ours.
        limits: when it is replaced.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        limits: ChildLimits | None = None,
    ) -> None:
        self._name = name
        # `env` is the POSIX command: the variables are the child's alone.
        variables = [f"{key}={value}" for key, value in (environment or {}).items()]
        self._command = ["env", *variables, sys.executable, "-m", module, *arguments]
        self._limits = limits or ChildLimits()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest: threading.Timer | None = None
        self._answered = 0
        self.started = 0
        """Children started so far."""

    def ask(self, request: bytes) -> bytes:
        """Returns the child's answer.

        Raises:
            Unavailable: it cannot be started, died, or took too long; the next call starts a new one.
        """
        with self._lock:
            if self._rest is not None:
                self._rest.cancel()
            try:
                answer = self._exchange(request)
            except (OSError, ValueError) as error:
                self._stop()
                raise Unavailable(f"the {self._name} process failed: {error}") from error
            self._rest = threading.Timer(self._limits.idle_s, self._stop_if_idle, [self._answered])
            self._rest.daemon = True
            self._rest.start()
            return answer

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            if self._rest is not None:
                self._rest.cancel()
            self._stop()

    def _exchange(self, request: bytes) -> bytes:
        process = self._ready_process()
        if process.stdin is None:
            raise OSError("it has no pipes")
        process.stdin.write(_LENGTH.pack(len(request)) + request)
        process.stdin.flush()
        answer = _read_frame(process, self._limits.answer_timeout_s)
        self._answered += 1
        return answer

    def _ready_process(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._is_spent(self._process):
            self._stop()
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._answered = 0
            self.started += 1
            _read_frame(self._process, self._limits.start_timeout_s)
        return self._process

    def _is_spent(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None or self._answered >= self._limits.answers:
            return True
        pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * _PAGE_BYTES > self._limits.memory_bytes

    def _stop_if_idle(self, answered: int) -> None:
        with self._lock:
            if self._answered == answered:  # nobody asked while this waited for the lock
                self._stop()

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it did not take any more
                    pipe.close()
        self._process = None


def serve(prepare: Callable[[], Callable[[bytes], bytes]]) -> None:
    """Answers the parent until it closes the pipe: the child's side. An error ends the child; the parent says so.

    Args:
        prepare: imports and loads, then returns what answers a request.
    """
    # Libraries greet on standard output now and then; the pipe is for frames alone.
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answer = prepare()
    _write_frame(sink, b"")
    while header := source.read(_LENGTH.size):
        _write_frame(sink, answer(source.read(_LENGTH.unpack(header)[0])))


def _write_frame(sink: BinaryIO, data: bytes) -> None:
    sink.write(_LENGTH.pack(len(data)) + data)
    sink.flush()


def _read_frame(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    length = _LENGTH.unpack(_read(process, _LENGTH.size, deadline, timeout_s))[0]
    return _read(process, length, deadline, timeout_s)


def _read(process: subprocess.Popen[bytes], count: int, deadline: float, timeout_s: float) -> bytes:
    if process.stdout is None:
        raise OSError("it has no pipes")
    chunks = bytearray()
    while len(chunks) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            raise OSError(f"no answer within {timeout_s:g} s")
        # read1: select sees only the pipe, so nothing may stay in Python's buffer between the two.
        chunk = process.stdout.read1(count - len(chunks))  # type: ignore[attr-defined]
        if not chunk:
            raise OSError("it ended")
        chunks += chunk
    return bytes(chunks)
