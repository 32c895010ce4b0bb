"""Whether good and bad images can be told apart without looking at the part: then a data set flatters any detector."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from services.anomaly.curves import compute_auroc
from services.anomaly.frames import to_pixels

_RIM = 16  # of an image without a mask the background is the outermost sixteenth of each side
_SUSPICIOUS = 0.6
_QUANTILE = 2.5758293035489004  # of the normal distribution, for an interval of 99 %


@dataclass(frozen=True)
class Shortcut:
    """What one simple look at the images would reach; `flatters` where that is more than chance."""

    name: str  # "brightness" or "background"
    auroc: float
    low: float  # of the 99 % interval
    high: float

    @property
    def flatters(self) -> bool:
        """Whether a report must warn: surely above one half, and by more than a trifle."""
        return self.low > 0.5 and self.auroc >= _SUSPICIOUS


def describe_brightness(image: NDArray[np.generic]) -> float:
    """The mean over pixels and channels."""
    return float(to_pixels(image).mean())


def describe_background(image: NDArray[np.generic], part: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """(12,): mean, deviation and mean slope of the background in each quarter of the image.

    Args:
        image: (h, w), (h, w, 3) or (h, w, 4), as sent.
        part: (h, w) what does not belong to the background; None: all but the rim.
    """
    grey = to_pixels(image).mean(axis=2, dtype=np.float32)
    height, width = grey.shape
    if part is None:
        part = np.zeros((height, width), dtype=np.bool_)
        part[height // _RIM : height - height // _RIM, width // _RIM : width - width // _RIM] = True
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    slope = np.hypot(across, down)
    found = []
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            outside = ~part[rows, columns]
            if not outside.any():
                outside = np.ones_like(outside)
            levels = grey[rows, columns][outside]
            found += [levels.mean(), levels.std(), slope[rows, columns][outside].mean()]
    return np.array(found, dtype=np.float64)


def judge_brightness(brightness: NDArray[np.float64], is_bad: NDArray[np.bool_]) -> Shortcut:
    """How well the mean brightness alone tells bad from good, whichever of them is brighter."""
    auroc = compute_auroc(brightness, is_bad)
    return _measure("brightness", max(auroc, 1 - auroc), is_bad)


def judge_background(descriptions: NDArray[np.float64], is_bad: NDArray[np.bool_]) -> Shortcut:
    """How well the distance (n, 12) to the nearest other good background tells bad from good."""
    good = descriptions[~is_bad]
    scale = good.std(axis=0) + 1e-3 * np.abs(good).mean(axis=0) + 1e-9
    near, next_near = cKDTree(good / scale).query(descriptions / scale, k=2)[0].T
    return _measure("background", compute_auroc(np.where(is_bad, near, next_near), is_bad), is_bad)


def _measure(name: str, auroc: float, is_bad: NDArray[np.bool_]) -> Shortcut:
    """With the interval of Hanley and McNeil (Radiology 143, 1982, eq. 2), cut to 0 to 1."""
    bad, good = int(is_bad.sum()), int((~is_bad).sum())
    both_bad, both_good = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (bad - 1) * (both_bad - auroc**2) + (good - 1) * (both_good - auroc**2)
    error = _QUANTILE * math.sqrt(max(spread, 0.0) / (bad * good))
    return Shortcut(name, auroc, max(0.0, auroc - error), min(1.0, auroc + error))
