"""Moves a picture with its boxes and masks by an affine map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki import Box
from mekiki.augment.paint import cover_boxes, paint_over
from mekiki.formats import Mark, Picture
from mekiki.formats.picture import view

Matrix = NDArray[np.float64]  # (2, 3), between edges of pixels: the picture's corner is (0, 0)


@dataclass(frozen=True)
class Motion:
    """How far a picture may move."""

    turn_deg: float = 15
    """Turned by up to so much, either way."""

    zoom: float = 1.2
    """Larger or smaller by up to this factor, 1 or more."""

    shift: float = 0.1
    """Moved by up to this share of its sides."""

    flip: bool = True
    """Left and right may change places; where it may turn by 90 degrees or more, top and bottom as well."""

    def draw(self, rng: np.random.Generator, width: int, height: int) -> Matrix:
        """Returns a map about the picture's middle."""
        angle = np.deg2rad(rng.uniform(-self.turn_deg, self.turn_deg))
        scale = self.zoom ** rng.uniform(-1, 1)
        across = -1 if self.flip and rng.random() < 0.5 else 1
        down = -1 if self.flip and self.turn_deg >= 90 and rng.random() < 0.5 else 1
        linear = (
            scale
            * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            @ np.diag([across, down])
        )
        middle = np.array([width, height]) / 2
        move = rng.uniform(-self.shift, self.shift, 2) * (width, height)
        return np.column_stack([linear, middle + move - linear @ middle])


Shapes = Sequence[NDArray[np.bool_] | None]


def warp_picture(picture: Picture, matrix: Matrix, least_visible: float, shapes: Shapes) -> Picture:
    """Returns the picture moved; see `warp_marks`."""
    marks = warp_marks(picture, matrix, least_visible, shapes)
    mask = None if picture.mask is None else warp_mask(picture.mask, matrix, picture.width, picture.height)
    return replace(picture, pixels=_warp_pixels(picture, matrix), marks=marks, mask=mask)


def warp_marks(picture: Picture, matrix: Matrix, least_visible: float, shapes: Shapes) -> tuple[Mark, ...]:
    """Returns the marks of the picture moved, their boxes drawn anew.

    With a mask a box is exactly that of its pixels. Else, where `shapes` has a guess of the object's pixels in its box,
    it is the box of that; else the object is taken for the ellipse that fills its box: the box around the turned
    corners would grow by up to 41 % a side, which no object fills (Kalra et al., "Towards rotation invariance in object
    detection", ICCV 2021, section 3).

    Args:
        picture: with its marks.
        matrix: where it moves.
        least_visible: 0 to 1; marks of which less stays inside are dropped.
        shapes: one for each mark, (box height, box width), or None.
    """
    size = picture.width, picture.height
    moved: list[Mark | None] = []
    for mark, shape in zip(picture.marks, shapes, strict=True):
        if mark.mask is not None:
            moved.append(_warp_masked(mark, mark.mask, matrix, *size, least_visible))
        elif shape is not None:
            bounded = _warp_masked(mark, shape, matrix, *size, least_visible)
            moved.append(bounded and replace(bounded, mask=None))
        else:
            moved.append(_warp_ellipse(mark, matrix, *size, least_visible))
    return tuple(mark for mark in moved if mark is not None)


def _warp_ellipse(mark: Mark, matrix: Matrix, width: int, height: int, least_visible: float) -> Mark | None:
    low, high = _bound_ellipse(mark.annotation.box, matrix)
    start, end = np.maximum(low, 0), np.minimum(high, (width, height))
    if (end <= start).any() or np.prod((end - start) / (high - low)) < least_visible:
        return None
    left, top = np.floor(start + 0.25).astype(int).tolist()
    right, bottom = np.ceil(end - 0.25).astype(int).tolist()
    box = Box(left, top, max(right, left + 1), max(bottom, top + 1))
    return Mark(replace(mark.annotation, box=box, annotation_id=""))


def _bound_ellipse(box: Box, matrix: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    half = np.array([box.width, box.height]) / 2
    middle = matrix[:, :2] @ (np.array([box.x_min, box.y_min]) + half) + matrix[:, 2]
    reach = np.sqrt((matrix[:, :2] ** 2) @ half**2)
    return middle - reach, middle + reach


def _warp_masked(
    mark: Mark, mask: NDArray[np.bool_], matrix: Matrix, width: int, height: int, least_visible: float
) -> Mark | None:
    box = mark.annotation.box
    here = matrix @ np.array([[1.0, 0, box.x_min], [0, 1, box.y_min], [0, 0, 1]])
    moved = warp_mask(mask, here, width, height)
    whole = mask.sum() * abs(np.linalg.det(matrix[:, :2]))
    if not moved.any() or moved.sum() < least_visible * whole:
        return None
    return bound_mask(mark, moved)


def bound_mask(mark: Mark, drawn: NDArray[np.bool_]) -> Mark:
    """Returns the mark with the box of a mask of the whole picture, (h, w), which is not empty."""
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    bounded = Mark(replace(mark.annotation, box=box, annotation_id=""))
    return replace(bounded, mask=view(drawn, bounded).copy())


def warp_mask(mask: NDArray[np.bool_], matrix: Matrix, width: int, height: int) -> NDArray[np.bool_]:
    """Returns a mask moved into a picture of that size."""
    moved = cv2.warpAffine(mask.astype(np.float32), to_centres(matrix), (width, height), flags=cv2.INTER_LINEAR)
    inside: NDArray[np.bool_] = moved >= 0.5
    return inside


def to_centres(matrix: Matrix) -> Matrix:
    """Returns the map between centres of pixels, as OpenCV counts, of one between their edges."""
    return np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2].sum(axis=1) / 2 - 0.5])


def _warp_pixels(picture: Picture, matrix: Matrix) -> NDArray[np.uint8]:
    """Beyond its rim the picture is mirrored, but never an object: there it is painted over."""
    size, centres = (picture.width, picture.height), to_centres(matrix)
    moved = np.asarray(cv2.warpAffine(picture.pixels, centres, size, borderMode=cv2.BORDER_REFLECT_101), dtype=np.uint8)
    if not picture.marks:
        return moved
    taken = cover_boxes(picture, 0.1).astype(np.uint8)
    shown = cv2.warpAffine(taken, centres, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    own = cv2.warpAffine(np.ones_like(taken), centres, size, flags=cv2.INTER_NEAREST)
    doubled = (shown > 0) & (own == 0)
    return paint_over(moved, doubled) if doubled.any() else moved
