"""Which pixels are an object's, as annotation files tell it: kept small until an image's mask is drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mekiki.formats.runs import to_rows

Ends = tuple[float, float, float, float]  # left, top, right, bottom

_CROSSINGS = 10_000_000  # rows that edges cross, looked at at once


@dataclass(frozen=True, eq=False)
class Outline:
    """Which pixels are an object's: polygons in pixels of the image, or a mask at a place."""

    polygons: tuple[NDArray[np.float64], ...] = ()  # each (n, 2), x first
    runs: NDArray[np.int32] | None = None  # of a mask (height, width), row by row, zeros first
    left: int = 0
    top: int = 0
    width: int = 0
    height: int = 0

    def bound(self) -> Ends:
        """The ends of the box around it."""
        if self.polygons:
            return bound_polygons(self.polygons)
        return self.left, self.top, self.left + self.width, self.top + self.height


def outline_mask(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> Outline:
    """The outline of a mask, (h, w), at a place; kept no larger than what is set in it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return Outline()
    y, x = int(rows[0]), int(columns[0])
    inside = mask[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1]
    height, width = inside.shape
    return Outline((), np.asarray(to_rows(inside), np.int32), left + x, top + y, width, height)


def take_polygon(numbers: object) -> NDArray[np.float64]:
    """A polygon, (n, 2), of x and y in turn or of pairs; raises ValueError for what is none."""
    points = np.asarray(numbers, np.float64)
    if points.size % 2 or points.size < 6 or not np.isfinite(points).all():
        raise ValueError("a polygon must have three points or more, of two finite numbers each")
    return points.reshape(-1, 2)


def bound_polygons(polygons: Sequence[NDArray[np.float64]]) -> Ends:
    """The ends of the box around polygons."""
    points = np.concatenate(polygons)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def draw_outlines(outlines: Iterable[Outline], width: int, height: int) -> NDArray[np.bool_]:
    """The union of outlines in an image of that size, (height, width)."""
    canvas = np.zeros((height, width), bool)
    for outline in outlines:
        for polygon in outline.polygons:
            canvas |= fill_polygon(polygon, width, height)
        if outline.runs is not None:
            _paste(canvas, outline, outline.runs)
    return canvas


def fill_polygon(polygon: NDArray[np.float64], width: int, height: int) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside a polygon by the even-odd rule, (height, width)."""
    flips = np.zeros((height, width + 1), np.int32)
    start, end = polygon, np.roll(polygon, -1, axis=0)
    at_once = max(1, _CROSSINGS // max(1, height))
    for first in range(0, len(polygon), at_once):
        rows, columns = _cross(start[first : first + at_once], end[first : first + at_once], width, height)
        np.add.at(flips, (rows, columns), 1)
    inside: NDArray[np.bool_] = np.cumsum(flips, axis=1)[:, :width] % 2 == 1
    return inside


def _cross(
    start: NDArray[np.float64], end: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where edges cross the middles of rows: the rows, and the first column whose centre lies right of it."""
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.intp)
    counts = np.clip(np.ceil(high - 0.5), 0, height).astype(np.intp) - first
    edges = np.repeat(np.arange(len(start)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    share = (rows + 0.5 - start[edges, 1]) / (end[edges, 1] - start[edges, 1])
    x = start[edges, 0] + share * (end[edges, 0] - start[edges, 0])
    return rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)


def _paste(canvas: NDArray[np.bool_], outline: Outline, runs: NDArray[np.int32]) -> None:
    mask = np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(outline.height, outline.width)
    top, left = max(0, outline.top), max(0, outline.left)
    bottom = min(outline.top + outline.height, canvas.shape[0])
    right = min(outline.left + outline.width, canvas.shape[1])
    if top < bottom and left < right:
        inside = mask[top - outline.top : bottom - outline.top, left - outline.left : right - outline.left]
        canvas[top:bottom, left:right] |= inside
