"""Masks as run lengths, as SDK, services and formats have them: how many pixels in turn are outside and inside.

Runs begin with those outside (a first run of 0 where the first pixel is inside).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

PIXEL_LIMIT = 1 << 28
"""Pixels that a mask may claim to have; what claims more is refused before memory is asked for."""


def to_runs(flat: Mask) -> NDArray[np.int64]:
    """Run lengths of a flat mask, zeros first."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [not flat[-1]] if flat.size else [True]))))
    return np.diff(np.concatenate(([0], edges))).astype(np.int64)


def from_runs(runs: NDArray[np.int64] | Sequence[int], width: int, height: int, limit: int = PIXEL_LIMIT) -> Mask:
    """A flat mask of width * height pixels.

    Raises:
        ValueError: the runs do not make so many pixels, or the mask has more than `limit`.
    """
    lengths = np.asarray(runs, np.int64)
    if width < 0 or height < 0 or width * height > limit:
        raise ValueError(f"a mask has at most {limit} pixels, not {width} x {height}")
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.astype(float).sum() != width * height:
        raise ValueError(f"the runs of a mask of {width} x {height} pixels do not add up")
    return np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
