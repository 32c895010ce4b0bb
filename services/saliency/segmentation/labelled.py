"""What a segmenter is trained on: pictures, what each shows, and where, of those that somebody drew it on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from services.saliency.pictures import Pixels

BACKGROUND, UNKNOWN = 0, 255  # of masks and seeds; n is the n-th label


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Pictures in their squares.

    Attributes:
        pictures: (n, s, s, 3) uint8, may be a read-only memory map.
        labels: names of the k classes, in alphabetical order.
        present: which of them each picture shows, (n, k).
        mains: number of the first label of each, -1 where it shows none; (n,) int64.
        groups: "" where an item has none.
        masks: by number of the picture, what is known to be where, (s, s) uint8: BACKGROUND, the n-th label or UNKNOWN.
        trimaps: the same of pictures of which somebody knows some: what is UNKNOWN may yet be found.
    """

    pictures: Pixels
    labels: tuple[str, ...]
    present: npt.NDArray[np.bool_]
    mains: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    masks: Mapping[int, Pixels] = field(default_factory=dict)
    trimaps: Mapping[int, Pixels] = field(default_factory=dict)


def fit_mask(mask: npt.NDArray[np.bool_], size: int, main: int, *, alone: bool) -> Pixels:
    """Squeeze a mask (h, w) as its picture is, to (size, size) classes.

    Inside is the label number `main`. Outside is background where that label is `alone`, else another one may be there.
    A pixel that lies on the outline is what most of it is, or unknown.
    """
    height, width = mask.shape
    shrinks = height >= size and width >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    share = cv2.resize(mask.astype(np.float32), (size, size), interpolation=method)
    classes = np.full((size, size), UNKNOWN, np.uint8)
    if alone:
        classes[share == 0] = BACKGROUND
    classes[share >= 0.5] = main + 1
    return classes


def fit_trimap(inside: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_], size: int, main: int) -> Pixels:
    """Bring what is known of a picture, two maps (h, w), to (size, size) classes; inside is the label number `main`.

    A cell is what most of what is known of it says, however little that is: a thin stroke must not vanish because the
    cells are large.
    """
    height, width = inside.shape
    smaller = (min(width, size), min(height, size))
    shares = []
    for known in (inside, outside):
        shrunk = cv2.resize(known.astype(np.float32), smaller, interpolation=cv2.INTER_AREA)
        shares.append(cv2.resize(shrunk, (size, size), interpolation=cv2.INTER_NEAREST))
    within, without = shares
    classes = np.full((size, size), UNKNOWN, np.uint8)
    classes[without > 0] = BACKGROUND
    classes[(within > 0) & (within >= without)] = main + 1
    return classes


def lay_over(seeds: Pixels, data: LabelledSet) -> None:
    """Put what somebody drew in place of seeds, (n, side, side); a trimap only where it knows."""
    side = int(seeds.shape[-1])
    for number, mask in data.masks.items():
        seeds[number] = shrink_classes(mask, side, len(data.labels))
    for number, trimap in data.trimaps.items():
        main = int(data.mains[number])
        known = fit_trimap(trimap == main + 1, trimap == BACKGROUND, side, main)
        seeds[number] = np.where(known == UNKNOWN, seeds[number], known)


def shrink_classes(classes: Pixels, side: int, labels: int) -> Pixels:
    """Classes (s, s) on a coarser grid, (side, side): a cell is what half of it is, background where all of it is."""
    shrunk = np.full((side, side), UNKNOWN, np.uint8)
    for number in range(labels + 1):
        share = cv2.resize((classes == number).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        shrunk[share >= (0.999 if number == BACKGROUND else 0.5)] = number
    return shrunk
