"""Cuts single objects out of their pictures, so that they can be strewn over others.

What is the object within its box is told from the ring around the box: pixels unlike the ring's (by colour, thresholded
as Otsu, 1979) belong to it. Where that gives nothing sensible, the whole box goes along, with soft edges.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.saliency.detection.letterbox import Boxes
from services.saliency.pictures import Pixels

MARGIN = 0.15  # of the box's longer side, around it: what the ring is made of
LEAST_RING = 40  # pixels
LEAST_COVER, MOST_COVER = 0.12, 0.92  # of the box by its object; else the outline is not believed
LEAST_SPAN = 0.7  # of each side of the box
SOFT_EDGE = 0.06  # of a box that goes along whole


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object: pixels (h, w, 3) uint8, how much of each is the object (h, w) float32 in [0, 1]."""

    pixels: Pixels
    alpha: npt.NDArray[np.float32]
    outlined: bool
    """Whether `alpha` is the object's own outline, so that it can be turned by any angle."""


def cut_out(picture: Pixels, box: npt.NDArray[np.float32]) -> Cutout | None:
    """Cut a box, (4,), out of a picture, (h, w, 3); None where less than 4 pixels of a side are left of it."""
    height, width = picture.shape[:2]
    left, top, right, bottom = (int(value) for value in np.rint(box))
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if min(right - left, bottom - top) < 4:
        return None
    margin = max(2, round(MARGIN * max(right - left, bottom - top)))
    x, y = max(left - margin, 0), max(top - margin, 0)
    around = picture[y : bottom + margin, x : right + margin]
    inside = np.zeros(around.shape[:2], np.bool_)
    inside[top - y : bottom - y, left - x : right - x] = True
    outline = _outline(around, inside)
    rows, columns = slice(top - y, bottom - y), slice(left - x, right - x)
    pixels = np.ascontiguousarray(around[rows, columns])
    if outline is None:
        return Cutout(pixels, _soften_box(*pixels.shape[:2]), outlined=False)
    alpha = np.asarray(cv2.GaussianBlur(outline[rows, columns].astype(np.float32), (3, 3), 0), np.float32)
    return Cutout(pixels, alpha, outlined=True)


def _outline(around: Pixels, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    ring = around[~inside]
    if len(ring) < LEAST_RING:
        return None
    colours = cv2.cvtColor(around, cv2.COLOR_RGB2LAB).astype(np.float32)
    centre = np.median(colours[~inside], axis=0)
    spread = np.maximum(np.percentile(np.abs(colours[~inside] - centre), 90, axis=0), 2)
    distance = np.minimum(np.sqrt((((colours - centre) / spread) ** 2).sum(axis=2)) * 16, 255).astype(np.uint8)
    distance = cv2.GaussianBlur(distance, (3, 3), 0)
    threshold, _ = cv2.threshold(distance[inside], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = ((distance > min(threshold, 80)) & inside).astype(np.uint8)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    largest = _keep_largest(np.asarray(closed, np.uint8))
    return largest.astype(np.bool_) if _is_sensible(largest, inside) else None


def _keep_largest(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return mask
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.asarray(parts == largest, np.uint8)


def _is_sensible(mask: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> bool:
    cover = mask.sum() / inside.sum()
    if not LEAST_COVER <= cover <= MOST_COVER:
        return False
    spans = [mask.any(axis=axis).sum() / inside.any(axis=axis).sum() for axis in (0, 1)]
    return bool(min(spans) >= LEAST_SPAN)


def _soften_box(height: int, width: int) -> npt.NDArray[np.float32]:
    """1 in the middle, falling to 0 over the outermost SOFT_EDGE of each side."""
    ramps = []
    for side in (height, width):
        edge = max(1.0, SOFT_EDGE * side)
        place = np.arange(side, dtype=np.float32) + 0.5
        ramps.append(np.minimum(np.minimum(place, side - place) / edge, 1))
    return np.outer(ramps[0], ramps[1]).astype(np.float32)


def turn(cutout: Cutout, angle: float, scale: float) -> Cutout:
    """Turn an outlined object by `angle` degrees and resize it; the result is as large as what is left of it."""
    height, width = cutout.alpha.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    reach = np.abs(matrix[:, :2]) @ np.array([width, height], np.float64)
    size = max(1, int(np.ceil(reach[0]))), max(1, int(np.ceil(reach[1])))
    matrix[:, 2] += (np.array(size) - np.array([width, height])) / 2
    pixels, alpha = _shrink_first(cutout, scale)
    matrix[:, :2] *= width / alpha.shape[1], height / alpha.shape[0]
    turned = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR)
    return _trim(Cutout(np.asarray(turned, np.uint8), np.asarray(share, np.float32), outlined=True))


def _shrink_first(cutout: Cutout, scale: float) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Halve what will be far smaller, so that fine detail is averaged and not skipped."""
    pixels, alpha = cutout.pixels, cutout.alpha
    while scale < 0.5 and min(alpha.shape) > 8:
        half = alpha.shape[1] // 2, alpha.shape[0] // 2
        pixels = np.asarray(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA), np.uint8)
        alpha = np.asarray(cv2.resize(alpha, half, interpolation=cv2.INTER_AREA), np.float32)
        scale *= 2
    return pixels, alpha


def _trim(cutout: Cutout) -> Cutout:
    solid = cutout.alpha >= 0.5
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if not len(rows):
        return cutout
    place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Cutout(cutout.pixels[place], cutout.alpha[place], cutout.outlined)


def resize(cutout: Cutout, scale: float, quarter_turns: int) -> Cutout:
    """Resize an object that goes along with its whole box, and turn it by quarters."""
    size = tuple(max(2, round(side * scale)) for side in cutout.alpha.shape[::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels = np.rot90(cv2.resize(cutout.pixels, size, interpolation=method), quarter_turns)
    alpha = np.rot90(cv2.resize(cutout.alpha, size, interpolation=cv2.INTER_LINEAR), quarter_turns)
    return Cutout(np.ascontiguousarray(pixels), np.ascontiguousarray(alpha), cutout.outlined)


def mirror(cutout: Cutout) -> Cutout:
    """Give the mirror image."""
    return Cutout(
        np.ascontiguousarray(cutout.pixels[:, ::-1]), np.ascontiguousarray(cutout.alpha[:, ::-1]), cutout.outlined
    )


def cover(box: npt.NDArray[np.float32], others: Boxes) -> float:
    """The largest share of any of two boxes that the other hides, over all of `others`; 0 where there are none."""
    if not len(others):
        return 0.0
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.minimum(np.prod(box[2:] - box[:2]), np.prod(others[:, 2:] - others[:, :2], axis=1))
    return float((shared / np.maximum(areas, 1e-6)).max())
