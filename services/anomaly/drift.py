"""Whether the scores of parts that pass have risen since the calibration: a sequential test with a stated error.

Each score gets a smoothed conformal p-value among the calibration's scores and those seen before it. As long as all of
them are exchangeable, these are independent and uniform, whatever the scores' law (Vovk, Gammerman and Shafer,
"Algorithmic learning in a random world", 2005, theorem 8.1). A Simple Jumper bets against that (Vovk, Petej,
Nouretdinov, Ahlberg, Carlsson and Gammerman, "Retrain or not retrain: conformal test martingales for change-point
detection", COPA 2021): its capital begins at 1, and by Ville's inequality it ever reaches 1 / error with a probability
of at most `error`.

Only scores at most the threshold count, of the calibration and of the line: a line has bad parts, a calibration has
not; and given an order statistic, those below it are a sample of what is below it. Only rising scores are bet on. A
bank that grows lowers them, and so does its being whole: enrolled items were calibrated against nine tenths of it.
"""

import numpy as np
from numpy.typing import NDArray

from services.anomaly.bins import BINS, to_bins

ERROR = 0.01
"""Of each window of images, the probability that drift is signalled where there is none."""

WINDOW = 10_000
"""Images after which the test begins again: the capital melts while nothing happens, and must not melt for ever."""

_JUMP = 0.01  # as in the paper
_SLOPES = np.array([0.0, -1.0, -2.0])  # bets that p-values are uniform, are small, are very small


class DriftTest:
    """The test of one calibration. Not thread-safe.

    Args:
        normal_scores: those of the calibration.
        threshold: its threshold.
        seed: of the draws that part ties.
    """

    def __init__(self, normal_scores: NDArray[np.float64], threshold: float, seed: int = 0) -> None:
        self._threshold = threshold
        self._reference = np.bincount(to_bins(normal_scores[normal_scores <= threshold]), minlength=BINS)
        self._random = np.random.default_rng(seed)
        self.seen = 0
        """Images that were counted."""
        self.drifted = False
        """Whether drift was ever signalled."""
        self._begin()

    @property
    def evidence(self) -> float:
        """The capital against the hypothesis that nothing has changed, in this window; 1 / `ERROR` signals drift."""
        return float(self._capital.sum())

    def add(self, score: float) -> None:
        """Count an image that was judged."""
        if not score <= self._threshold:
            return
        if self.seen and self.seen % WINDOW == 0:
            self._begin()
        place = int(to_bins(np.array([score]))[0])
        self._counts[place] += 1
        above = int(self._counts[place + 1 :].sum())
        p_value = (above + self._random.random() * int(self._counts[place])) / int(self._reference_size + self._added)
        self._added += 1
        self._bet(p_value)
        self.seen += 1
        self.drifted = self.drifted or self.evidence >= 1 / ERROR

    def _begin(self) -> None:
        self._counts = self._reference.copy()
        self._reference_size = int(self._reference.sum()) + 1
        self._added = 0
        self._capital = np.full(3, 1 / 3)

    def _bet(self, p_value: float) -> None:
        total = self._capital.sum()
        self._capital = (1 - _JUMP) * self._capital + _JUMP / 3 * total
        self._capital = self._capital * (1 + _SLOPES * (p_value - 0.5))
