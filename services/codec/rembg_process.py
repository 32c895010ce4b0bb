"""rembg in a process of its own, replaced after so many images or when it has grown too large: it leaks memory.

Pictures go over the child's standard input, masks come back over its standard output; see `rembg_child`.
"""

import contextlib
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.rembg_child import HEADER
from services.runtime.errors import Unavailable

_PAGE_BYTES = 4096


@dataclass(frozen=True)
class RembgLimits:
    """When the child is replaced or given up.

    Attributes:
        images: most images one child sees.
        memory_bytes: resident size past which it is replaced.
        start_timeout_s: longest time to import and load.
        answer_timeout_s: longest time an image may take.
    """

    images: int = 500
    memory_bytes: int = 1 << 30
    start_timeout_s: float = 120.0
    answer_timeout_s: float = 60.0


class RembgProcess:
    """Finds foregrounds with U^2-Net in a child process. Thread-safe: one image at a time; started when first used."""

    def __init__(self, model: Path, limits: RembgLimits | None = None) -> None:
        """Takes the model's file, `u2netp.onnx`."""
        self._model = model
        self._limits = limits or RembgLimits()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._seen = 0
        self.started = 0
        """Children started so far."""

    def find_foreground(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns how surely each pixel is foreground, (h, w), 0 to 255, for an image (h, w) or (h, w, 3).

        Raises:
            Unavailable: the child cannot be started, died, or took too long; the next call starts a new one.
        """
        colour = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
        with self._lock:
            try:
                return self._ask(np.ascontiguousarray(colour, np.uint8))
            except (OSError, ValueError) as error:
                self._stop()
                raise Unavailable(f"the background removal process failed: {error}") from error

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            self._stop()

    def _ask(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        child = self._ready_child()
        height, width = image.shape[:2]
        if child.stdin is None or child.stdout is None:
            raise OSError("it has no pipes")
        child.stdin.write(HEADER.pack(height, width) + image.tobytes())
        child.stdin.flush()
        answer = _read(child, height * width, self._limits.answer_timeout_s)
        self._seen += 1
        return np.frombuffer(answer, np.uint8).reshape(height, width)

    def _ready_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._is_spent(self._child):
            self._stop()
        if self._child is None:
            self._child = self._start()
        return self._child

    def _is_spent(self, child: subprocess.Popen[bytes]) -> bool:
        if child.poll() is not None or self._seen >= self._limits.images:
            return True
        pages = int(Path(f"/proc/{child.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * _PAGE_BYTES > self._limits.memory_bytes

    def _start(self) -> subprocess.Popen[bytes]:
        # `env` is the POSIX command: rembg finds models by this variable, and ours stays as it is.
        command = ["env", f"U2NET_HOME={self._model.parent}", sys.executable, "-m", "services.codec.rembg_child"]
        self._child = subprocess.Popen(  # noqa: S603 - our own module
            [*command, str(self._model)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._seen = 0
        self.started += 1
        _read(self._child, 1, self._limits.start_timeout_s)  # it says that it is ready
        return self._child

    def _stop(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it did not take any more
                    pipe.close()
        self._child = None


def _read(child: subprocess.Popen[bytes], count: int, timeout_s: float) -> bytes:
    if child.stdout is None:
        raise OSError("it has no pipes")
    deadline = time.monotonic() + timeout_s
    chunks = bytearray()
    while len(chunks) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
            raise OSError(f"no answer within {timeout_s:g} s")
        # read1: select sees only the pipe, so nothing may stay in Python's buffer between the two.
        chunk = child.stdout.read1(count - len(chunks))  # type: ignore[attr-defined]
        if not chunk:
            raise OSError("it ended")
        chunks += chunk
    return bytes(chunks)
