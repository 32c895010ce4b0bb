"""A calibration, and what a line's images say of it since."""

import numpy as np
from numpy.typing import NDArray

from services.anomaly.drift import DriftTest
from services.anomaly.entries import Calibration
from services.anomaly.threshold import Threshold


class Watched:
    """The calibration of a version that is in memory; all None and empty before there is one.

    Args:
        calibration: as the catalogue has it.
        threshold: its threshold.
        scores: of the normals that it was set from, ascending.
    """

    def __init__(
        self, calibration: Calibration | None, threshold: Threshold | None, scores: NDArray[np.float64]
    ) -> None:
        self.calibration = calibration
        self.threshold = threshold
        self.scores = scores
        self.drift = None if threshold is None or not len(scores) else DriftTest(scores, threshold.value)

    def add(self, score: float) -> None:
        """Count an image that was judged."""
        if self.drift is not None:
            self.drift.add(score)
