"""Defects made up to measure by: from hardly visible to clear, so that a figure is not perfect from the start.

The metric engine learns from other ones (`engines.defects`), which are as clear as a lesson should be.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.anomaly.engines.defects import choose_point
from services.anomaly.frames import bound_mask

_CONTRAST = (8.0, 80.0)  # grey levels, of strength 1; drawn evenly in their logarithm
_MOST_CONTRAST = 200.0
_SCRATCH_LENGTH = (0.03, 0.2)  # of the part's longer side, as all lengths here
_SCRATCH_WIDTH = (0.002, 0.006)
_STAIN_RADIUS = (0.008, 0.04)
_BEND_RADIUS = (0.02, 0.08)
_BEND_SHIFT = (0.1, 0.5)  # of its radius


@dataclass(frozen=True)
class Scale:
    """How large and how clear a fault is."""

    part: float  # its longer side, pixels
    strength: int

    def draw_length(self, share: tuple[float, float], random: np.random.Generator) -> float:
        """Pixels, from shares of the part's longer side; of twice the strength 1.4 times as long."""
        return float(random.uniform(*share) * self.part * np.sqrt(self.strength))

    def draw_contrast(self, random: np.random.Generator) -> float:
        """Grey levels."""
        return min(_MOST_CONTRAST, float(np.exp(random.uniform(*np.log(_CONTRAST)))) * self.strength)


Fault = Callable[[NDArray[np.uint8], tuple[int, int], Scale, np.random.Generator], NDArray[np.uint8]]


def make_fault(
    image: NDArray[np.uint8], part: NDArray[np.bool_] | None, random: np.random.Generator, strength: int = 1
) -> NDArray[np.uint8]:
    """A copy of an image with a scratch, a stain or a bend somewhere on the part.

    Args:
        image: (h, w) or (h, w, 3).
        part: (h, w); None: everywhere.
        random: decides everything.
        strength: from 1, hardly visible. A stronger one is of the same kind, at the same place.
    """
    where = np.ones(image.shape[:2], dtype=np.bool_) if part is None or not part.any() else part
    box = bound_mask(where)
    size = max(box.x1 - box.x0, box.y1 - box.y0)
    kind: Fault = (_scratch, _stain, _bend)[int(random.integers(3))]
    return kind(image, choose_point(where, random), Scale(size, strength), random)


def _scratch(
    image: NDArray[np.uint8], centre: tuple[int, int], scale: Scale, random: np.random.Generator
) -> NDArray[np.uint8]:
    length, angle = scale.draw_length(_SCRATCH_LENGTH, random) / 2, random.uniform(0, np.pi)
    step = np.array([np.cos(angle), np.sin(angle)]) * length
    ends = [tuple(int(value) for value in np.round(np.array(centre) + side * step)) for side in (-1, 1)]
    width = max(1, round(scale.draw_length(_SCRATCH_WIDTH, random)))
    drawn = np.zeros(image.shape[:2], np.uint8)
    cv2.line(drawn, ends[0], ends[1], 255, width, cv2.LINE_AA)
    return _shade(image, drawn, scale.draw_contrast(random), random)


def _stain(
    image: NDArray[np.uint8], centre: tuple[int, int], scale: Scale, random: np.random.Generator
) -> NDArray[np.uint8]:
    radius = max(1.0, scale.draw_length(_STAIN_RADIUS, random))
    axes = (max(1, round(radius)), max(1, round(radius * random.uniform(0.4, 1))))
    drawn = np.zeros(image.shape[:2], np.uint8)
    cv2.ellipse(drawn, centre, axes, random.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(drawn, (0, 0), max(0.5, radius / 4))
    return _shade(image, np.asarray(soft, dtype=np.uint8), scale.draw_contrast(random), random)


def _bend(
    image: NDArray[np.uint8], centre: tuple[int, int], scale: Scale, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Draws what is there to one side, most in the middle."""
    radius = max(2.0, scale.draw_length(_BEND_RADIUS, random))
    angle, reach = random.uniform(0, 2 * np.pi), random.uniform(*_BEND_SHIFT) * radius
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    pull = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (radius / 2) ** 2)).astype(np.float32) * reach
    moved = cv2.remap(
        image,
        (x - pull * np.cos(angle)).astype(np.float32),
        (y - pull * np.sin(angle)).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved, dtype=np.uint8)


def _shade(
    image: NDArray[np.uint8], drawn: NDArray[np.uint8], contrast: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Makes it darker or brighter, whichever there is room for, most where 255 is drawn; alike in every channel."""
    middle = float(image[drawn == drawn.max()].mean())
    sign = 1 if middle + contrast <= 255 and (middle < contrast or random.random() < 0.5) else -1
    change = drawn.astype(np.float32) / 255 * contrast * sign
    shaded = image.astype(np.float32) + (change if image.ndim == 2 else change[..., None])
    return np.clip(np.round(shaded), 0, 255).astype(np.uint8)
