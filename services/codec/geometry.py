"""Affine maps as (2, 3) float64 arrays between centres of pixels: (x, y) -> A @ (x, y, 1)."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]  # (2, 3)
Mask = NDArray[np.bool_]  # (h, w)
Points = NDArray[np.float64]  # (n, 2)

IDENTITY: Affine = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def compose(first: Affine, *then: Affine) -> Affine:
    """Returns the map that applies `first`, then each of `then` in turn."""
    matrix: NDArray[np.float64] = _square(first)
    for affine in then:
        matrix = _square(affine) @ matrix
    return matrix[:2]


def invert(affine: Affine) -> Affine:
    """Returns the map back."""
    return np.asarray(np.linalg.inv(_square(affine))[:2], np.float64)


def apply(affine: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps points, (n, 2)."""
    mapped: NDArray[np.float64] = points @ affine[:, :2].T + affine[:, 2]
    return mapped


def rotate(angle: float, source: NDArray[np.float64], target: NDArray[np.float64]) -> Affine:
    """Returns the rotation by `angle` radians (x towards y) that takes the point `source` to `target`."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([turn, target - turn @ source])


def fit_rigid(source: Points, target: Points) -> Affine:
    """Returns the rotation and shift that takes points nearest to others (Kabsch, 1976: least squares)."""
    return _fit_turned(source, target, scaled=False)


def fit_similarity(source: Points, target: Points) -> Affine:
    """Returns the rotation, scale and shift that takes points nearest to others (Umeyama, 1991: least squares)."""
    return _fit_turned(source, target, scaled=True)


def cut_and_scale(left: float, top: float, factor: float) -> Affine:
    """Returns the map of a crop at (left, top) that is then resized by `factor`, as `cv2.resize` does it."""
    shift = 0.5 * factor - 0.5
    return np.array([[factor, 0.0, shift - factor * left], [0.0, factor, shift - factor * top]])


def scale_of(affine: Affine) -> float:
    """Returns by how much lengths grow on average."""
    return math.sqrt(abs(float(np.linalg.det(affine[:, :2]))))


def warp_mask(mask: Mask, affine: Affine, width: int, height: int) -> Mask:
    """Returns the mask as the map takes it, (height, width); outside lies nothing."""
    grey = cv2.warpAffine(mask.astype(np.uint8) * 255, affine, (width, height), flags=cv2.INTER_LINEAR)
    return grey >= 128


def measure_overlap(one: Mask, other: Mask) -> float:
    """Returns the IoU of two masks, 0 to 1; 0 when both are empty."""
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 0.0


def find_axis(mask: Mask) -> tuple[NDArray[np.float64], float, float]:
    """Returns the centre (x, y), the angle of the principal axis in radians, and longer by shorter axis, of a mask."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    along, across = moments["mu20"] - moments["mu02"], 2 * moments["mu11"]
    spread, total = math.hypot(across, along), moments["mu20"] + moments["mu02"]
    elongation = math.sqrt((total + spread) / max(total - spread, 1e-9))
    return centre, 0.5 * math.atan2(across, along), elongation


def find_bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Returns the half-open box x_min, y_min, x_max, y_max of a mask that is not empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _fit_turned(source: Points, target: Points, *, scaled: bool) -> Affine:
    middle, aim = source.mean(axis=0), target.mean(axis=0)
    from_middle, from_aim = source - middle, target - aim
    along = float((from_middle * from_aim).sum())
    across = float((from_middle[:, 0] * from_aim[:, 1] - from_middle[:, 1] * from_aim[:, 0]).sum())
    factor = math.hypot(along, across) / float((from_middle**2).sum()) if scaled else 1.0
    turn = factor * rotate(math.atan2(across, along), middle, aim)[:, :2]
    return np.column_stack([turn, aim - turn @ middle])


def _square(affine: Affine) -> NDArray[np.float64]:
    return np.vstack([affine, [0.0, 0.0, 1.0]])
