"""Images that are too many for the memory."""

from pathlib import Path

import cv2
import numpy as np

from services.runtime.errors import Unavailable
from services.runtime.images import Pixels


class FrameFiles:
    """Images in the files of a folder, lossless; (h, w), (h, w, 3) or (h, w, 4), uint8."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._numbers: dict[str, int] = {}

    def put(self, name: str, pixels: Pixels) -> None:
        """Keeps the image of that name, in place of another one."""
        number = self._numbers.setdefault(name, len(self._numbers))
        if not cv2.imwrite(str(self._folder / f"{number}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            size = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise Unavailable(f"the temporary folder is full: there is no room for an image of {size} pixels")

    def get(self, name: str) -> Pixels:
        """Returns it."""
        return np.asarray(cv2.imread(str(self._folder / f"{self._numbers[name]}.png"), cv2.IMREAD_UNCHANGED))
