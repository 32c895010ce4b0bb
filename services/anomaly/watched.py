"""A calibration, and what a line's images say of it since."""

from collections.abc import Mapping

from services.anomaly.drift import DriftTest
from services.anomaly.entries import Calibration
from services.anomaly.threshold import Standard


class Watched:
    """The calibration of a version that is in memory; None and empty before there is one.

    Args:
        calibration: as the catalogue has it.
        standards: what it says of each category.
    """

    def __init__(self, calibration: Calibration | None, standards: Mapping[str, Standard]) -> None:
        self.calibration = calibration
        self.standards = standards
        self.drifts: dict[str, DriftTest] = {}
        """By category, of those that images were judged as."""

    def add(self, category: str, score: float) -> DriftTest | None:
        """Count an image that was judged; None where there is nothing that its score could have drifted from."""
        standard = self.standards.get(category)
        if standard is None or not len(standard.normal_scores):
            return None
        if category not in self.drifts:  # half a megabyte each
            self.drifts[category] = DriftTest(standard.normal_scores, standard.threshold.value)
        self.drifts[category].add(score)
        return self.drifts[category]

    def find_worst(self) -> tuple[str, DriftTest] | None:
        """The category with the most evidence that its scores have risen, those first that were found to have."""
        drifts = sorted(self.drifts.items())
        return max(drifts, key=lambda each: (each[1].drifted, each[1].evidence), default=None)
