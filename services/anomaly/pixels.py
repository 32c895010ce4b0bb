"""How well heat maps tell defective pixels from good ones, over any number of images in constant memory."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from services.anomaly.bins import BINS, to_bins
from services.runtime.errors import InvalidArgument

PRO_LIMIT = 0.3
"""Share of good pixels up to which the overlap with regions is counted, as in the paper named below."""


@dataclass(eq=False)
class PixelCurve:
    """Pixel AUROC and PRO.

    Heat is counted in the 65,536 values of half precision, which keep its order to 0.1 %; over those both are exact.
    PRO is the area under the per-region overlap (Bergmann et al., "The MVTec anomaly detection dataset", IJCV 129,
    2021, section 5.1): of every connected region of a mask the share that is hot enough, so that a small defect counts
    as much as a large one; averaged over regions, and over the shares of good pixels from 0 to 0.3.
    """

    good: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))  # pixels, by their heat
    bad: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))  # shares of regions, added up
    regions: int = 0

    def add(self, heatmap: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Count an image; heat is at least 0, so the order of its bits is the order of its values.

        Raises:
            InvalidArgument: the mask (h, w) has another shape than the heat map.
        """
        if heatmap.shape != truth.shape:
            raise InvalidArgument("mask", f"must have the shape of the image {heatmap.shape}, got {truth.shape}")
        bits = to_bins(heatmap)
        self.good += np.bincount(bits[~truth], minlength=BINS)
        count, regions = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        for region in range(1, count):
            inside = np.bincount(bits[regions == region], minlength=BINS)
            self.bad += inside
            self.overlap += inside / inside.sum()
        self.regions += count - 1

    @staticmethod
    def join(curves: Iterable["PixelCurve"]) -> "PixelCurve":
        """All that several curves have counted."""
        joined = PixelCurve()
        for curve in curves:
            joined.good += curve.good
            joined.bad += curve.bad
            joined.overlap += curve.overlap
            joined.regions += curve.regions
        return joined

    def compute_auroc(self) -> float | None:
        """The probability that a defective pixel is hotter than a good one; None before there are both."""
        if not self.good.sum() or not self.bad.sum():
            return None
        below = np.cumsum(self.good) - self.good
        pairs = float(self.good.sum()) * float(self.bad.sum())
        return float((self.bad * (below + self.good / 2)).sum() / pairs)

    def compute_pro(self) -> float | None:
        """Per-region overlap, from 0 to 1; None before there are good pixels and a region."""
        if not self.good.sum() or not self.regions:
            return None
        raised = np.concatenate([[0.0], np.cumsum(self.good[::-1]) / self.good.sum()])
        overlap = np.concatenate([[0.0], np.cumsum(self.overlap[::-1]) / self.regions])
        end = int(np.searchsorted(raised, PRO_LIMIT, side="right"))
        x = np.append(raised[:end], PRO_LIMIT)
        y = np.append(overlap[:end], np.interp(PRO_LIMIT, raised, overlap))
        return float(np.trapezoid(y, x) / PRO_LIMIT)
