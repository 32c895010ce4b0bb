"""Moving a box's sides: what turns the box around the telling part into the box around the whole."""

from dataclasses import dataclass

import numpy as np

from services.boxfit.fit import Box

LEAST, MOST = -0.45, 2.0  # of the box's own side; at -0.5 on both sides nothing would be left


@dataclass(frozen=True)
class Growth:
    """What each side is moved outwards by: left and right by fractions of the width, top and bottom of the height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 0.0
    bottom: float = 0.0


NO_GROWTH = Growth()


def grow_box(box: Box, growth: Growth, size: tuple[int, int]) -> Box:
    """Move a box's sides, not beyond an image of `size` (width, height); one pixel at least is left."""
    width, height = box.x_max - box.x_min, box.y_max - box.y_min
    x_min = min(max(0, round(box.x_min - growth.left * width)), size[0] - 1)
    y_min = min(max(0, round(box.y_min - growth.top * height)), size[1] - 1)
    x_max = max(min(size[0], round(box.x_max + growth.right * width)), x_min + 1)
    y_max = max(min(size[1], round(box.y_max + growth.bottom * height)), y_min + 1)
    return Box(x_min, y_min, x_max, y_max)


def measure_growth(found: Box, wanted: Box) -> Growth:
    """Tell what would turn one box into another, within the limits."""
    width, height = found.x_max - found.x_min, found.y_max - found.y_min
    moves = (
        (found.x_min - wanted.x_min) / width,
        (found.y_min - wanted.y_min) / height,
        (wanted.x_max - found.x_max) / width,
        (wanted.y_max - found.y_max) / height,
    )
    return Growth(*(float(move) for move in np.clip(moves, LEAST, MOST)))


def measure_iou(one: Box, two: Box) -> float:
    """Tell the intersection over union of two boxes, 0 to 1."""
    width = min(one.x_max, two.x_max) - max(one.x_min, two.x_min)
    height = min(one.y_max, two.y_max) - max(one.y_min, two.y_min)
    shared = max(0, width) * max(0, height)
    return shared / (one.area + two.area - shared)
