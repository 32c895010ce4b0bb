"""Paints over what must not be seen."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki.formats import Picture

_SIDE = 160  # of the picture in which holes are filled, pixels: what is filled is smooth, and quick
_ROUNDS = 60
_MOST_GRAIN = 6.0  # of 255; more is texture
_GRAIN_PX = 2.0  # coarser than this is structure, finer is grain


def cover_boxes(picture: Picture, margin: float) -> NDArray[np.bool_]:
    """Returns where the boxes of a picture are, (h, w), each wider by a share of its longer side."""
    taken = np.zeros(picture.pixels.shape[:2], bool)
    for mark in picture.marks:
        box = mark.annotation.box
        more = max(3, round(margin * max(box.width, box.height)))
        taken[max(0, box.y_min - more) : box.y_max + more, max(0, box.x_min - more) : box.x_max + more] = True
    side = 2 * (max(taken.shape) // 40) + 1  # what is left between boxes shows their shadows
    return cv2.morphologyEx(taken.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((side, side), np.uint8)).astype(bool)


def paint_over(pixels: NDArray[np.uint8], holes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Returns the pixels, (h, w) or (h, w, 3), with holes, (h, w), filled from their rims inwards (Telea, 2004).

    They are filled at a coarse size; grain as strong as that of the rest is put on top.
    """
    height, width = holes.shape
    scale = min(1.0, _SIDE / max(holes.shape))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    shares = cv2.resize(holes.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    gaps = cv2.dilate((shares > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    coarse = cv2.inpaint(small, gaps, 5, cv2.INPAINT_TELEA).astype(np.float32)
    for _ in range(_ROUNDS):  # towards the membrane that the rim of a hole carries
        coarse[gaps > 0] = cv2.blur(coarse, (5, 5))[gaps > 0]
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(holes.astype(np.float32), (0, 0), _GRAIN_PX)
    grain = np.random.default_rng(0).standard_normal((height, width), np.float32) * _measure_grain(pixels, holes)
    if pixels.ndim == 3:
        soft, grain = soft[..., None], grain[..., None]
    painted = pixels * (1 - soft) + (smooth + grain) * soft
    return np.clip(np.rint(painted), 0, 255).astype(np.uint8)


def _measure_grain(pixels: NDArray[np.uint8], holes: NDArray[np.bool_]) -> np.float32:
    """Robust standard deviation of what is finer than `_GRAIN_PX` outside the holes."""
    fine = pixels.astype(np.float32) - cv2.GaussianBlur(pixels, (0, 0), _GRAIN_PX)
    free = fine[~holes]
    return np.float32(min(1.4826 * np.median(np.abs(free)), _MOST_GRAIN) if free.size else 0)
