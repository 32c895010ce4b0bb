"""What stands out from the rim of an image: a second opinion beside the map, for parts on a plain ground.

The colour of the ground is taken from the image's rim; the distance of every pixel's colour to it, in units of the
rim's own spread, is cut where the two sides differ most (Otsu, IEEE Trans. SMC 9, 1979), and then a little nearer to
the ground, for the outermost pixels of a part are half ground. Where the ground is plain, a box ends where what stands
out does, for maps are coarse: around a part of a tenth of the image they come out twice as large. How plain it must be
was measured on photos that classifiers had learnt from (raccoons, steel) and on other rendered parts than any that are
judged: taking it there never cost anything in the mean.
"""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from services.boxfit.fit import Box, Map

SIDE = 128  # pixels of the longer side that the mask is made at
_RIM = 0.04  # of the shorter side
_NOISE = 2.0  # of 255: the least spread that a ground is believed to have
_FAR = 60.0  # spreads; beyond this all colours are equally foreign
_EDGE = 0.7  # of the threshold: the outermost pixels of a part are half ground
_MOST_GROUND = 0.995  # of the rim's ground is nearer to its colour than any part
_WIDEST = 20.0  # of 255: the spread of a plain ground
_MOST_TOUCHING = 0.1  # of the rim, by what stands out from a plain ground
_LEAST_GAP = 1.2  # spreads between nine tenths of a plain ground and of what stands out from it
_TENTH = 10.0  # per cent
_MOST_GROWTH = 2.0  # of a box's area: a part is not the box of a defect on it


class ForegroundUse(StrEnum):
    """Whether a box ends where what stands out from the rim does; see the contract's enum."""

    ALWAYS = "always"
    PLAIN_GROUND = "plain_ground"
    NEVER = "never"


@dataclass(frozen=True, eq=False)
class Foreground:
    """What stands out.

    Attributes:
        mask: of an image, 128 pixels a side at most, (h, w).
        is_plain: whether the ground is of one colour and what stands out is far from it.
    """

    mask: Map
    is_plain: bool


def segment_foreground(image: NDArray[np.generic]) -> Foreground:
    """Tell the foreground of an image, (h, w) or (h, w, 1|3|4), uint8 or uint16."""
    small = _shrink(image)
    colours = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), dtype=np.float32)
    rim_px = max(1, round(_RIM * min(small.shape[:2])))
    rim = np.ones(small.shape[:2], dtype=np.bool_)
    rim[rim_px:-rim_px, rim_px:-rim_px] = False
    ground = colours[rim]
    centre = np.median(ground, axis=0)
    spread = np.maximum(np.median(np.abs(ground - centre), axis=0) * 1.4826, _NOISE)
    distance = np.minimum(np.sqrt((((colours - centre) / spread) ** 2).sum(axis=2)), _FAR)
    levels = np.rint(distance * (255 / _FAR)).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    surely: Map = levels > threshold
    is_plain = spread.max() <= _WIDEST and surely[rim].mean() <= _MOST_TOUCHING and _is_far(distance, surely)
    ground_levels = levels[rim & ~surely]
    noise = np.quantile(ground_levels, _MOST_GROUND) if len(ground_levels) else 0
    return Foreground(levels > max(_EDGE * threshold, noise), bool(is_plain))


def _is_far(distance: NDArray[np.float32], mask: Map) -> bool:
    if not mask.any():  # all of it is ground, or Otsu found no two sides
        return False
    return bool(np.percentile(distance[mask], _TENTH) - np.percentile(distance[~mask], 100 - _TENTH) >= _LEAST_GAP)


def refine_box(foreground: Foreground, box: Box, size: tuple[int, int], use: ForegroundUse) -> Box:
    """Give the box around what stands out where a box is, or that box, in an image of `size` (width, height)."""
    if use is ForegroundUse.NEVER or (use is ForegroundUse.PLAIN_GROUND and not foreground.is_plain):
        return box
    refined = _enclose(foreground.mask, box, size)
    if use is ForegroundUse.PLAIN_GROUND and refined.area > _MOST_GROWTH * box.area:
        return box
    return refined


def _enclose(mask: Map, box: Box, size: tuple[int, int]) -> Box:
    """Give the tight box of those pieces of a mask that lie mostly in the box, or that the box lies mostly in.

    The box itself is given back where there is no such piece.
    """
    height, width = mask.shape
    across, down = width / size[0], height / size[1]
    left, right = int(box.x_min * across), max(int(np.ceil(box.x_max * across)), int(box.x_min * across) + 1)
    top, bottom = int(box.y_min * down), max(int(np.ceil(box.y_max * down)), int(box.y_min * down) + 1)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    inside = np.bincount(labels[top:bottom, left:right].ravel(), minlength=len(stats))[1:]
    if not inside.any():
        return box
    largest = inside.max()
    pieces = stats[1:][(inside >= 0.5 * stats[1:, cv2.CC_STAT_AREA]) & (inside >= 0.05 * largest) | (inside == largest)]
    lows = pieces[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
    highs = lows + pieces[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    x_min, y_min = lows.min(axis=0).tolist()
    x_max, y_max = highs.max(axis=0).tolist()
    return Box(
        int(x_min / across),
        int(y_min / down),
        min(size[0], int(np.ceil(x_max / across))),
        min(size[1], int(np.ceil(y_max / down))),
    )


def _shrink(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB, its longer side 128 pixels at most."""
    planes = image[..., None] if image.ndim == 2 else image
    colour = np.repeat(planes, 3, axis=2) if planes.shape[2] == 1 else planes[..., :3]
    eight = (colour >> 8 if colour.dtype == np.uint16 else colour).astype(np.uint8)  # type: ignore[operator]
    scale = min(1.0, SIDE / max(eight.shape[:2]))
    size = max(1, round(eight.shape[1] * scale)), max(1, round(eight.shape[0] * scale))
    return np.asarray(cv2.resize(np.ascontiguousarray(eight), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
