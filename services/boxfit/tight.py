"""The tight box of a map's largest connected component."""

import cv2
import numpy as np

from services.boxfit.fit import Box, Fit, Map, check_map, measure_fit


def fit_tight(ones: Map) -> Fit:
    """Find the largest 8-connected component's tight box; of equal ones, the first (x_min, y_min, x_max, y_max).

    Args:
        ones: the binary map, (h, w) bool.

    Raises:
        InvalidArgument: see `check_map`.
    """
    check_map(ones)
    count, _, stats, _ = cv2.connectedComponentsWithStats(ones.astype(np.uint8), connectivity=8)
    components = [_describe(row) for row in stats[1:].tolist()]  # row 0 is the background
    _, box = min(components)
    return measure_fit(ones, box, evaluations=count - 1, optimal=False)


def _describe(row: list[int]) -> tuple[int, Box]:
    """OpenCV's row as (minus the area, box), so that the least is the largest component."""
    left, top, width, height, area = row
    return -area, Box(left, top, left + width, top + height)
