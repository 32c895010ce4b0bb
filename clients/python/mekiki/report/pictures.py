"""Pictures for reports: heat maps laid over images, boxes drawn on them, all made small enough to send by mail."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (h, w) or (h, w, 3), RGB
Box = tuple[int, int, int, int]  # left, top, right, bottom: half open, pixels

# From transparent over vermilion to pale yellow: lighter always means farther from normal, in colour and in grey.
_STOPS = np.array([0.0, 0.35, 0.7, 1.0])
_COLOURS = np.array([[150, 30, 0], [213, 94, 0], [240, 178, 20], [255, 246, 170]], dtype=np.float64)
_OPACITY = np.array([0.0, 0.62, 0.8, 0.92])


def overlay_heat(pixels: Pixels, heatmap: NDArray[np.float32], low: float, high: float) -> Pixels:
    """Return the image as RGB with the heat map over it: nothing at `low` or less, full colour at `high` or more."""
    height, width = pixels.shape[:2]
    large = cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)
    strength = np.clip((large - low) / max(high - low, 1e-12), 0, 1)
    opacity = np.interp(strength, _STOPS, _OPACITY)[..., None]
    colour = np.stack([np.interp(strength, _STOPS, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    return np.asarray(np.rint(as_rgb(pixels) * (1 - opacity) + colour * opacity), dtype=np.uint8)


def lay_mask(pixels: Pixels, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> Pixels:
    """Return the image as RGB with the pixels of a mask (h, w) tinted, and their outline in full colour."""
    drawn = as_rgb(pixels).copy()
    drawn[mask] = np.rint(0.45 * drawn[mask] + 0.55 * np.array(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, outlines, -1, colour, max(1, round(max(drawn.shape) / 300)))
    return drawn


def draw_box(pixels: Pixels, box: Box, colour: tuple[int, int, int], thickness: int = 0) -> Pixels:
    """Return the image as RGB with a box drawn in `colour`, its line dark-rimmed so that it shows on any ground."""
    drawn = as_rgb(pixels).copy()
    wide = thickness or max(2, round(max(drawn.shape) / 170))
    left, top, right, bottom = box
    for ink, width in (((20, 24, 28), wide + 2), (colour, wide)):
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), ink, width, cv2.LINE_AA)
    return drawn


def as_rgb(pixels: Pixels) -> Pixels:
    """Return grey or RGBA pixels as RGB."""
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=-1)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[2] == 1 else pixels[..., :3]


def as_8bit(pixels: NDArray[Any]) -> Pixels:
    """Return pixels of 8 or 16 bits as 8 bits, grey without a channel axis."""
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return np.asarray(flat >> 8 if flat.dtype == np.uint16 else flat, dtype=np.uint8)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Return the image with its longer side at most `side` pixels."""
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
