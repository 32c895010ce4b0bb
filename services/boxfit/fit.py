"""A box, how well it fits a binary map, and the check every method begins with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidArgument

Map = NDArray[np.bool_]  # (h, w), true where the object is
Heat = NDArray[np.float32]  # (h, w), >= 0
Levels = NDArray[np.uint8]  # (h, w)

# Beyond this many pixels the integers of the exact search could leave 64 bits (see exact.py).
MAX_MAP_PIXELS = 2**31 - 1


@dataclass(frozen=True, order=True)
class Box:
    """A half-open pixel box, origin top left: x_min <= x < x_max and y_min <= y < y_max."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int

    @property
    def area(self) -> int:
        """The number of pixels inside."""
        return (self.x_max - self.x_min) * (self.y_max - self.y_min)


@dataclass(frozen=True)
class Fit:
    """A box and its agreement with the map, as the two integers of intersection over union.

    `optimal` is true only where the method has proven that no box has a higher IoU. `evaluations` counts rounds of
    the search (exact), boxes tried (bayesian) or components seen (tight).
    """

    box: Box
    intersection: int  # pixels that are in the box and in the map
    union: int  # pixels that are in either
    evaluations: int
    optimal: bool

    @property
    def iou(self) -> float:
        """Intersection over union, in 0..1."""
        return self.intersection / self.union


def check_map(ones: Map) -> None:
    """Raise InvalidArgument unless `ones` is a boolean (h, w) array of an acceptable size with a true pixel in it."""
    if ones.ndim != 2 or ones.dtype != np.bool_:
        raise InvalidArgument("map", f"must be a boolean (h, w) array, is {ones.dtype} with {ones.ndim} axes")
    if ones.size > MAX_MAP_PIXELS:
        raise InvalidArgument("map", f"must have at most {MAX_MAP_PIXELS} pixels, has {ones.size}")
    if not ones.any():
        raise InvalidArgument("map", f"must have at least 1 pixel set, has 0 of {ones.size}")


def measure_fit(ones: Map, box: Box, evaluations: int, *, optimal: bool) -> Fit:
    """Count the pixels that `box` and the map share; the box must lie inside the map."""
    inside = int(np.count_nonzero(ones[box.y_min : box.y_max, box.x_min : box.x_max]))
    union = int(np.count_nonzero(ones)) + box.area - inside
    return Fit(box=box, intersection=inside, union=union, evaluations=evaluations, optimal=optimal)
