"""What anomaly measures: calibrations and evaluations."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mekiki._values.annotation import ModelRef
from mekiki._values.anomaly import Threshold
from mekiki.anomaly.v1 import anomaly_pb2


@dataclass(frozen=True, eq=False)
class Calibration:
    """What CalibrateDetector found."""

    threshold: Threshold
    scores: NDArray[np.float64]  # (n,) float64
    """The normals' scores, ascending."""

    @classmethod
    def from_proto(cls, response: anomaly_pb2.CalibrateDetectorResponse) -> Self:
        """From the wire."""
        return cls(Threshold.from_proto(response.threshold), np.array(response.scores, np.float64))


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval (Clopper and Pearson, 1934)."""

    count: int
    total: int
    lower: float
    upper: float

    @property
    def share(self) -> float:
        """The count as a share of the total; NaN of nothing."""
        return self.count / self.total if self.total else float("nan")

    @classmethod
    def from_proto(cls, rate: anomaly_pb2.Rate) -> Self:
        """From the wire."""
        return cls(rate.count, rate.total, rate.lower, rate.upper)


@dataclass(frozen=True)
class LabelEvaluation:
    """How one label fares."""

    label: str
    item_count: int
    image_auroc: float | None
    """Against all normals, 0 to 1; None for normal labels."""

    anomalous: Rate | None
    """Items called anomalous; None without a threshold."""

    @classmethod
    def from_proto(cls, label: anomaly_pb2.LabelEvaluation) -> Self:
        """From the wire."""
        return cls(
            label=label.label,
            item_count=label.item_count,
            image_auroc=label.image_auroc if label.HasField("image_auroc") else None,
            anomalous=Rate.from_proto(label.anomalous) if label.HasField("anomalous") else None,
        )


@dataclass(frozen=True)
class ItemScore:
    """Score of an item."""

    item_id: str
    label: str
    """Its first label."""

    score: float
    aligned: bool

    @classmethod
    def from_proto(cls, item: anomaly_pb2.ItemScore) -> Self:
        """From the wire."""
        return cls(item.item_id, item.label, item.score, item.aligned)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What EvaluateDetector measured."""

    image_auroc: float
    average_precision: float
    false_alarms: Rate | None
    """Normals called anomalous; None without a threshold."""

    misses: Rate | None
    """Anomalies called normal; None without a threshold."""

    labels: tuple[LabelEvaluation, ...]
    roc: NDArray[np.float64]  # (n, 2) float64
    """Points (false alarm rate, detection rate) from (0, 0) to (1, 1)."""

    scores: tuple[ItemScore, ...]
    model: ModelRef

    @classmethod
    def from_proto(cls, response: anomaly_pb2.EvaluateDetectorResponse) -> Self:
        """From the wire."""
        roc = [(point.false_alarm_rate, point.detection_rate) for point in response.roc]
        return cls(
            image_auroc=response.image_auroc,
            average_precision=response.average_precision,
            false_alarms=Rate.from_proto(response.false_alarms) if response.HasField("false_alarms") else None,
            misses=Rate.from_proto(response.misses) if response.HasField("misses") else None,
            labels=tuple(map(LabelEvaluation.from_proto, response.labels)),
            roc=np.array(roc, np.float64).reshape(-1, 2),
            scores=tuple(map(ItemScore.from_proto, response.scores)),
            model=ModelRef.from_proto(response.model),
        )
