"""Which pixels of a soft map belong to which of its peaks: a watershed that knows how deep a valley must be.

Pixels are taken from the highest down. One without a neighbour taken before is a new peak; where two basins meet, at
the pass between their peaks, the lower peak is only a ripple of the higher one if the pass is nearly as high as it is
(persistence: Edelsbrunner, Letscher and Zomorodian, "Topological persistence and simplification", 2002).
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from services.boxfit.fit import Heat

Labels = NDArray[np.int32]
F = TypeVar("F", bound=Callable[..., object])


def _compiled(function: F) -> F:
    """Compile with numba, free of the GIL, cached on disk where a folder can be written to."""
    try:
        return cast("F", njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast("F", njit(nogil=True)(function))


def label_basins(heat: Heat, least: float, least_dip: float) -> Labels:
    """Number the pixels of each basin from 1, 0 being what is below `least`; (h, w) int32, basins by falling peak.

    Args:
        heat: (h, w).
        least: height below which nothing is looked at; positive.
        least_dip: what the map must fall by between two peaks, as a fraction of the lower one.
    """
    flat = np.ascontiguousarray(heat, dtype=np.float32).ravel()
    order = np.argsort(-flat, kind="stable")
    order = order[: np.searchsorted(-flat[order], -np.float32(least), side="right")]
    roots = _flood(flat, order, heat.shape[0], heat.shape[1], 1 - least_dip)
    peaks = np.unique(roots[roots >= 0])
    peaks = peaks[np.argsort(-flat[peaks], kind="stable")]
    numbers = np.zeros(heat.size + 1, dtype=np.int32)  # the last stands for no root, -1
    numbers[peaks] = np.arange(1, len(peaks) + 1)
    return cast("Labels", numbers[roots].reshape(heat.shape))


@_compiled
def _flood(
    flat: NDArray[np.float32], order: NDArray[np.int64], height: int, width: int, share: float
) -> NDArray[np.int64]:
    """The peak, as a flat index, that each pixel belongs to; -1 for those that are not in `order`."""
    parents = np.full(height * width, -1, dtype=np.int64)
    near = np.empty(8, dtype=np.int64)
    for pixel in order:
        count = _list_neighbours(parents, pixel, height, width, near)
        highest, top = -1, -1  # the highest neighbour, whose basin the pixel joins; the basin with the highest peak
        for other in near[:count]:
            root = _find_root(parents, other)
            if highest < 0 or flat[other] > flat[highest]:
                highest = other
            if top < 0 or flat[root] > flat[top] or (flat[root] == flat[top] and root < top):
                top = root
        parents[pixel] = pixel if count == 0 else _find_root(parents, highest)
        for other in near[:count]:
            root = _find_root(parents, other)
            if root != top and flat[pixel] > share * flat[root]:
                parents[root] = top  # a ripple
    for pixel in order:
        parents[pixel] = _find_root(parents, pixel)
    return parents


@_compiled
def _list_neighbours(parents: NDArray[np.int64], pixel: int, height: int, width: int, near: NDArray[np.int64]) -> int:
    """Fill `near` with those of the eight neighbours that were taken before, and count them."""
    row, column, count = pixel // width, pixel % width, 0
    for i in range(max(row - 1, 0), min(row + 2, height)):
        for j in range(max(column - 1, 0), min(column + 2, width)):
            if parents[i * width + j] >= 0:
                near[count] = i * width + j
                count += 1
    return count


@_compiled
def _find_root(parents: NDArray[np.int64], pixel: int) -> int:
    while parents[pixel] != pixel:
        parents[pixel] = parents[parents[pixel]]
        pixel = parents[pixel]
    return pixel
