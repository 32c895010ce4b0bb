"""rembg in a process of its own, because it leaks memory."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.rembg_child import HEADER
from services.runtime.child import Child, ChildLimits


class RembgProcess:
    """Finds foregrounds with U^2-Net in a child process. Thread-safe: one image at a time; started when first used."""

    def __init__(self, model: Path, limits: ChildLimits | None = None) -> None:
        """Takes the model's file, `u2netp.onnx`."""
        # rembg finds models by the first. It imports pymatting, whose functions, never called here, numba would compile
        # on import: a minute and a half where nothing is cached.
        environment = {"U2NET_HOME": str(model.parent), "NUMBA_DISABLE_JIT": "1"}
        self._child = Child("background removal", "services.codec.rembg_child", [str(model)], environment, limits)

    @property
    def started(self) -> int:
        """Children started so far."""
        return self._child.started

    def find_foreground(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns how surely each pixel is foreground, (h, w), 0 to 255, for an image (h, w) or (h, w, 3).

        Raises:
            Unavailable: the child cannot be started, died, or took too long; the next call starts a new one.
        """
        colour = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
        height, width = image.shape[:2]
        answer = self._child.ask(HEADER.pack(height, width) + colour.tobytes())
        return np.frombuffer(answer, np.uint8).reshape(height, width)

    def close(self) -> None:
        """Ends the child."""
        self._child.close()
