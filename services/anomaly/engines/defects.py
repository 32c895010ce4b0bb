"""Defects made by hand on normal images: what the metric engine learns to tell from normal."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.anomaly.frames import bound_mask

NORMAL, LINE, DISTORTION = 0, 1, 2

# The source gives the largest rotation and shift; length, width and size are ours.
_LARGEST_ROTATION_DEG = 30.0
_LARGEST_SHIFT = 0.2  # of the patch's side
_LINE_LENGTH = (0.1, 0.5)  # of the part's longer side
_LINE_WIDTH_PX = (1, 3)  # half open, at the size that is trained on
_PATCH_SIDE = (0.15, 0.4)  # of the part's longer side
_SMALLEST_PART = 0.01  # of the image; a smaller difference to the mean is noise, and the whole image counts


@dataclass(frozen=True)
class PartLocator:
    """Where the part is: what differs from the mean of all images, in which parts in varying pose fade out."""

    mean: NDArray[np.float32]  # (h, w) grey

    @staticmethod
    def of(images: NDArray[np.uint8]) -> "PartLocator":
        """Learn from the training images (n, h, w, 3)."""
        total = np.zeros(images.shape[1:3], dtype=np.float64)
        for image in images:
            total += image.mean(axis=2)
        return PartLocator((total / len(images)).astype(np.float32))

    def locate(self, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """The part of `image` (h, w, 3) as a mask (h, w): the difference to the mean, binarised (Otsu 1979)."""
        difference = np.abs(image.mean(axis=2, dtype=np.float32) - self.mean)
        level = np.clip(difference, 0, 255).astype(np.uint8)
        _, binary = cv2.threshold(cv2.GaussianBlur(level, (5, 5), 0), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        part = np.asarray(binary > 0)
        return part if part.mean() >= _SMALLEST_PART else np.ones_like(part)


def make_batch(
    images: NDArray[np.uint8], parts: NDArray[np.bool_], class_count: int, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Give every image (n, h, w, 3) a class at random and make it what it is: normal, line or distortion.

    Args:
        images: normal ones; they stay as they are, the batch is a copy.
        parts: (n, h, w) where the part is.
        class_count: 2 (normal, line) or 3 (and distortion).
        random: decides everything.
    """
    classes = random.integers(0, class_count, len(images), dtype=np.int64)
    batch = images.copy()
    for image, part, kind in zip(batch, parts, classes, strict=True):
        if kind == LINE:
            draw_line(image, part, random)
        elif kind == DISTORTION:
            distort(image, part, random)
    return batch, classes


def draw_line(image: NDArray[np.uint8], part: NDArray[np.bool_], random: np.random.Generator) -> None:
    """Draw a thin line on the part, in place: any direction, any colour that differs from what is there."""
    x, y = choose_point(part, random)
    length = random.uniform(*_LINE_LENGTH) * _measure(part)
    angle = random.uniform(0, np.pi)
    step_x, step_y = np.cos(angle) * length / 2, np.sin(angle) * length / 2
    ends = [(round(x - step_x), round(y - step_y)), (round(x + step_x), round(y + step_y))]
    shade = (int(image[y, x].mean()) + int(random.integers(64, 193))) % 256
    width_px = int(random.integers(*_LINE_WIDTH_PX))
    cv2.line(image, ends[0], ends[1], (shade, shade, shade), width_px, cv2.LINE_AA)


def distort(image: NDArray[np.uint8], part: NDArray[np.bool_], random: np.random.Generator) -> None:
    """Rotate a round patch of the part by up to 30 degrees, shift it by up to 20 %, put it back, in place."""
    x, y = choose_point(part, random)
    side = max(8.0, random.uniform(*_PATCH_SIDE) * _measure(part))
    turn = cv2.getRotationMatrix2D((float(x), float(y)), random.uniform(-1, 1) * _LARGEST_ROTATION_DEG, 1.0)
    turn[:, 2] = turn[:, 2] + random.uniform(-_LARGEST_SHIFT, _LARGEST_SHIFT, 2) * side
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(image, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    patch = cv2.circle(np.zeros(image.shape[:2], dtype=np.uint8), (x, y), round(side / 2), 1, -1)
    carried = cv2.warpAffine(patch, turn, size, flags=cv2.INTER_NEAREST) > 0
    image[carried] = moved[carried]


def choose_point(part: NDArray[np.bool_], random: np.random.Generator) -> tuple[int, int]:
    """(x, y) of a random pixel of the part, of any pixel where there is no part."""
    candidates = np.flatnonzero(part) if part.any() else np.arange(part.size)
    y, x = divmod(int(random.choice(candidates)), part.shape[1])
    return x, y


def _measure(part: NDArray[np.bool_]) -> int:
    box = bound_mask(part)
    return max(box.x1 - box.x0, box.y1 - box.y0)
