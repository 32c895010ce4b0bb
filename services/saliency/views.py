"""An image looked at in several ways: at other scales and mirrored, and the maps of all of them made one.

Averaging over scales and mirror images is what follow-ups of CAM do as a matter of course (Ahn and Kwak, CVPR 2018,
section 4.1): what one view finds by accident the others do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.runtime.errors import InvalidArgument
from services.saliency.backbones import MAX_INPUT_SIZE, MIN_INPUT_SIZE

Heat = npt.NDArray[np.float32]

STEP = 32  # pixels; the coarsest stride of the usual backbones
MAX_SCALES = 5
PLAIN_SCALES = (1.0,)


@dataclass(frozen=True, order=True)
class View:
    """The square that the image is squeezed to, pixels a side, and whether left and right change places."""

    side: int
    mirrored: bool = False


def list_views(input_size: int, scales: Sequence[float], *, flip: bool) -> tuple[View, ...]:
    """List the views in the order of `scales`, each followed by its mirror image where `flip`; none twice.

    Raises InvalidArgument for more than `MAX_SCALES` scales, or one whose side is outside what a network can be fed.
    """
    if len(scales) > MAX_SCALES:
        raise InvalidArgument("scales", f"must be at most {MAX_SCALES}, are {len(scales)}")
    sides = [input_size if scale == 1 else _find_side(input_size, scale) for scale in scales or PLAIN_SCALES]
    ways = (False, True) if flip else (False,)
    return tuple(dict.fromkeys(View(side, mirrored) for side in sides for mirrored in ways))


def _find_side(input_size: int, scale: float) -> int:
    low, high = MIN_INPUT_SIZE / input_size, MAX_INPUT_SIZE / input_size
    if not low <= scale <= high:  # false for NaN, too
        limits = f"{low:g} to {high:g} for a network of {input_size} pixels a side"
        raise InvalidArgument("scales", f"must be {limits}, one is {scale:g}")
    return min(MAX_INPUT_SIZE, max(MIN_INPUT_SIZE, STEP * round(scale * input_size / STEP)))


def average_maps(maps: Sequence[Heat]) -> Heat:
    """Make one map of several, on the finest of their grids; a single one is given back as it is.

    Each is (h, w), signed, mirrored back already. Of each counts what speaks for the class, as a share of its maximum,
    since views of unlike size have maps of unlike height.
    """
    if len(maps) == 1:
        return maps[0]
    height, width = max(map(np.shape, maps))
    total = np.zeros((height, width), np.float32)
    for heat in maps:
        positive = np.maximum(heat, 0)
        peak = float(positive.max())
        if peak > 0:
            sized = cv2.resize(positive, (width, height), interpolation=cv2.INTER_LINEAR)
            total += np.asarray(sized, dtype=np.float32) / np.float32(peak)
    return total / np.float32(len(maps))
