"""What compression costs a detector, from TuneCompression."""

from dataclasses import dataclass
from typing import Self

from mekiki.anomaly.v1 import anomaly_pb2


@dataclass(frozen=True)
class RatePoint:
    """What a rate factor saves and costs."""

    crf: int
    frame_bytes: float
    """Mean bytes of a frame."""

    auroc: float
    """Area under the ROC curve, mean over the seeds."""

    loss: float
    """How much that is below the one without compression; negative where it is above."""

    loss_interval: tuple[float, float]
    """Of the loss, 95 %."""

    even_loss: float
    """The loss as a curve that never falls as the rate factor grows: chance evened out. This is what is limited."""

    @classmethod
    def from_proto(cls, point: anomaly_pb2.RatePoint) -> Self:
        """From the wire."""
        interval = (point.loss_lower, point.loss_upper)
        return cls(point.crf, point.frame_bytes, point.auroc, point.loss, interval, point.even_loss)


@dataclass(frozen=True)
class CompressionTuning:
    """How far prepared images can be compressed before a detector judges worse."""

    crf: int | None
    """The largest rate factor whose loss is allowed; None where even the smallest one costs more."""

    points: tuple[RatePoint, ...]
    """What was tried, by rate factor."""

    raw_auroc: float
    """With images as sent: against the next one, what preparing brings."""

    prepared_auroc: float
    """With prepared images, not compressed."""

    normal_count: int
    """Judgements of normal images behind each figure, over all seeds."""

    defect_count: int
    defect_strength: int
    """Of made-up defects: 1 is hardly visible, doubled (up to 16) until the detector tells 95 % of the pairs of a
    normal and a defect apart without compression; 0 where defects were given."""

    @classmethod
    def from_proto(cls, response: anomaly_pb2.TuneCompressionResponse) -> Self:
        """From the wire."""
        return cls(
            crf=response.crf if response.HasField("crf") else None,
            points=tuple(map(RatePoint.from_proto, response.points)),
            raw_auroc=response.raw_auroc,
            prepared_auroc=response.prepared_auroc,
            normal_count=response.normal_count,
            defect_count=response.defect_count,
            defect_strength=response.defect_strength,
        )
