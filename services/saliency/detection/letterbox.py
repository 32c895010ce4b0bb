"""From an image as sent to the detector's square and back: the one road that training and serving share.

An image keeps its shape: its longer side becomes the square's, and what is left over at the right or at the bottom is
grey. So pixel (x, y) of the square lies at (x / scale, y / scale) of the image.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.saliency.pictures import Pixels, convert_to_rgb

GREY = 114
"""What is left over is filled with; as in YOLOv5 and its kin, near the middle of what cameras see."""

Boxes = npt.NDArray[np.float32]
"""(n, 4): left, top, right, bottom; half open, pixels."""


@dataclass(frozen=True, eq=False)
class Letter:
    """An image in its square: pixels (s, s, 3) uint8, of which the top left `width` x `height` are the image."""

    pixels: Pixels
    width: int
    height: int
    scale: float
    """Pixels of the square to one of the image."""


def fit_into_square(image: npt.NDArray[np.generic], size: int, field: str = "image") -> Letter:
    """Convert and resize an image as sent, (h, w) or (h, w, 1|3|4), uint8 or uint16.

    Raises InvalidArgument naming `field` for any other type or shape.
    """
    rgb = convert_to_rgb(image, field)
    height, width = rgb.shape[:2]
    scale = size / max(height, width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels = np.full((size, size, 3), GREY, np.uint8)
    pixels[: inner[1], : inner[0]] = cv2.resize(rgb, inner, interpolation=method)
    return Letter(pixels, *inner, scale)


def map_back(boxes: Boxes, scale: float, width: int, height: int) -> npt.NDArray[np.int32]:
    """Give boxes of the square in whole pixels of the image, clipped to it; each holds one pixel at least."""
    limits = np.array([width, height, width, height], np.float32)
    found = np.clip(np.rint(boxes / np.float32(scale)), 0, limits).astype(np.int32)
    low = np.minimum(found[:, :2], np.array([width - 1, height - 1], np.int32))
    return np.concatenate([low, np.maximum(found[:, 2:], low + 1)], axis=1)
