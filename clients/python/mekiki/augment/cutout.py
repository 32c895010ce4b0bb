"""Cuts single parts out of pictures, by their boxes, for scenes of several."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki import Box
from mekiki.augment.segment import segment_part
from mekiki.formats import Mark, Picture

POOL = 200
"""Parts that are held at once; of more, as many are drawn at random."""

SIDE = 768
"""Longer side of a part that is held, pixels; larger ones are shrunk."""

_MARGIN = 0.15  # of a box's longer side: what is seen around it to tell the background by
_OVERLAP = 0.1  # share of a box that another one may cover


@dataclass(frozen=True, eq=False)
class Part:
    """A part that was cut out."""

    label: str
    pixels: NDArray[np.uint8]
    """(h, w, 3) RGB, with some of what was around it."""

    alpha: NDArray[np.float32]
    """(h, w), 1 where it is the part."""

    around: float
    """Mean brightness of what was around it, 0 to 255."""

    @property
    def longer_side(self) -> int:
        """Of the box around its pixels."""
        rows, columns = np.flatnonzero((self.alpha >= 0.5).any(axis=1)), np.flatnonzero((self.alpha >= 0.5).any(axis=0))
        return int(max(np.ptp(rows), np.ptp(columns))) + 1


def collect_parts(pictures: Iterable[Picture], seed: int = 0) -> tuple[tuple[Part, ...], int]:
    """The parts that could be cut out, at most `POOL` of them drawn at random, and how many could not.

    Left alone are boxes at a picture's rim and boxes that others cover: what is in them is not one whole part.
    """
    rng = np.random.default_rng([seed, 2])
    pool: list[Part] = []
    seen = failed = 0
    for picture in pictures:
        for mark in picture.marks:
            part = cut_part(picture, mark) if is_single(picture, mark) else None
            if part is None:
                failed += 1
                continue
            seen += 1
            place = len(pool) if len(pool) < POOL else int(rng.integers(seen))  # reservoir sampling (Vitter, 1985)
            pool[place : place + 1] = [part] if place < POOL else pool[place : place + 1]
    return tuple(pool), failed


def is_single(picture: Picture, mark: Mark) -> bool:
    """Whether a box lies within the picture, and no other one covers much of it."""
    box = mark.annotation.box
    if box.x_min < 1 or box.y_min < 1 or box.x_max >= picture.width or box.y_max >= picture.height:
        return False
    others = (other.annotation.box for other in picture.marks if other is not mark)
    return all(_intersect(box, other) <= _OVERLAP * box.width * box.height for other in others)


def _intersect(one: Box, other: Box) -> int:
    across = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    return max(0, across) * max(0, min(one.y_max, other.y_max) - max(one.y_min, other.y_min))


def cut_part(picture: Picture, mark: Mark) -> Part | None:
    """Cuts out what is in a box; None where what is part and what is background cannot be told apart.

    By the mark's own mask, else as `segment_part` finds it.
    """
    crop, inside = _crop(picture, mark)
    found = _draw_own(crop, inside, mark.mask) if mark.mask is not None else segment_part(crop, inside)
    if found is None:
        return None
    rim = np.ones(crop.shape[:2], bool)
    rim[inside.y_min : inside.y_max, inside.x_min : inside.x_max] = False
    around = float(crop[rim].mean()) if rim.any() else float(crop.mean())
    return _shrink(Part(mark.annotation.label, crop, _soften(found, mark.mask is None), around))


def find_pixels(picture: Picture, mark: Mark) -> NDArray[np.bool_] | None:
    """Which pixels of its box are the part's, (box height, box width), as `segment_part` finds them; else None."""
    crop, inside = _crop(picture, mark)
    found = segment_part(crop, inside)
    return None if found is None else found[inside.y_min : inside.y_max, inside.x_min : inside.x_max]


def _crop(picture: Picture, mark: Mark) -> tuple[NDArray[np.uint8], Box]:
    """What is in a box and around it, in colour, and the box in there."""
    box = mark.annotation.box
    margin = max(4, round(_MARGIN * max(box.width, box.height)))
    left, top = max(0, box.x_min - margin), max(0, box.y_min - margin)
    crop = picture.pixels[top : box.y_max + margin, left : box.x_max + margin]
    crop = np.ascontiguousarray(crop if crop.ndim == 3 else np.repeat(crop[..., None], 3, axis=2))
    return crop, Box(box.x_min - left, box.y_min - top, box.x_max - left, box.y_max - top)


def _draw_own(crop: NDArray[np.uint8], box: Box, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    own = np.zeros(crop.shape[:2], bool)
    own[box.y_min : box.y_max, box.x_min : box.x_max] = mask
    return own


def _soften(mask: NDArray[np.bool_], is_guess: bool) -> NDArray[np.float32]:  # noqa: FBT001
    """A mask with soft edges; of one that was guessed a pixel's rim of background is taken off first."""
    whole = mask.astype(np.uint8)
    hard = cv2.erode(whole, np.ones((3, 3), np.uint8)) if is_guess else whole
    return np.asarray(cv2.GaussianBlur(hard.astype(np.float32), (0, 0), 0.8), np.float32)


def _shrink(part: Part) -> Part:
    height, width = part.alpha.shape
    if max(height, width) <= SIDE:
        return part
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.asarray(cv2.resize(part.pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    alpha = np.asarray(cv2.resize(part.alpha, size, interpolation=cv2.INTER_AREA), np.float32)
    return Part(part.label, pixels, alpha, part.around)
