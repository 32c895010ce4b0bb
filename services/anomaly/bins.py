"""Scores and heat, counted in constant memory: by the bits of half precision, which keep their order to 0.1 %."""

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 16
_HIGHEST = 65504.0  # of half precision


def to_bins(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """The number, below `BINS`, of each value's bin; values are at least 0, so bins are in the order of the values."""
    bins: NDArray[np.uint16] = np.clip(values, 0, _HIGHEST).astype(np.float16).view(np.uint16)
    return bins
