"""What anomaly measures: calibrations and evaluations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mekiki._values.annotation import ModelRef
from mekiki._values.anomaly import Threshold
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.saliency.v1 import saliency_pb2


@dataclass(frozen=True, eq=False)
class Calibration:
    """What CalibrateDetector found."""

    thresholds: Mapping[str, Threshold]
    """By category."""

    scores: Mapping[str, NDArray[np.float64]]  # (n,) float64 each
    """The normals' scores by category, ascending."""

    @property
    def threshold(self) -> Threshold | None:
        """That of the only category; None where there are several: see `thresholds`."""
        return next(iter(self.thresholds.values())) if len(self.thresholds) == 1 else None

    @classmethod
    def from_proto(cls, response: anomaly_pb2.CalibrateDetectorResponse) -> Self:
        """From the wire."""
        thresholds = [Threshold.from_proto(each.threshold) for each in response.categories]
        scores = [np.array(each.scores, np.float64) for each in response.categories]
        names = [threshold.category for threshold in thresholds]
        return cls(dict(zip(names, thresholds, strict=True)), dict(zip(names, scores, strict=True)))


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval: a detector's by Clopper and Pearson (1934), a classifier's by Wilson (1927)."""

    count: int
    total: int
    lower: float
    upper: float

    @property
    def share(self) -> float:
        """The count as a share of the total; NaN of nothing."""
        return self.count / self.total if self.total else float("nan")

    @classmethod
    def from_proto(cls, rate: anomaly_pb2.Rate | saliency_pb2.Rate) -> Self:
        """From the wire."""
        return cls(rate.count, rate.total, rate.lower, rate.upper)


@dataclass(frozen=True)
class PixelEvaluation:
    """How well heat maps lie on masks."""

    auroc: float | None
    """Area under the ROC curve over pixels, 0 to 1; None without defective or without good pixels."""

    pro: float | None
    """Area under the per-region overlap up to .3 of the good pixels, 0 to 1 (Bergmann et al., 2021)."""

    item_count: int
    """Items whose pixels count: normal ones, and anomalous ones that have a mask."""

    @classmethod
    def from_proto(cls, pixels: anomaly_pb2.PixelEvaluation) -> Self:
        """From the wire."""
        return cls(
            auroc=pixels.auroc if pixels.HasField("auroc") else None,
            pro=pixels.pro if pixels.HasField("pro") else None,
            item_count=pixels.item_count,
        )


@dataclass(frozen=True)
class Shortcut:
    """A control: what one simple look at the images reaches that does not see the part."""

    name: str
    """ "brightness": the image's mean; "background": what is not the part, or the rim where that is unknown."""

    image_auroc: float
    lower: float
    upper: float
    """Ends of the 99 % interval (Hanley and McNeil, 1982)."""

    flatters: bool
    """It is above chance: good and bad images differ in more than the part, and figures on this data set flatter."""

    @classmethod
    def from_proto(cls, shortcut: anomaly_pb2.Shortcut) -> Self:
        """From the wire."""
        return cls(shortcut.name, shortcut.image_auroc, shortcut.lower, shortcut.upper, shortcut.flatters)


@dataclass(frozen=True)
class LabelEvaluation:
    """How one label fares."""

    label: str
    item_count: int
    image_auroc: float | None
    """Against all normals, 0 to 1; None for normal labels."""

    anomalous: Rate | None
    """Items called anomalous; None without a threshold."""

    pixels: PixelEvaluation | None
    """Of its masks and the normal items; None for normal labels, and where no item has a mask."""

    @classmethod
    def from_proto(cls, label: anomaly_pb2.LabelEvaluation) -> Self:
        """From the wire."""
        return cls(
            label=label.label,
            item_count=label.item_count,
            image_auroc=label.image_auroc if label.HasField("image_auroc") else None,
            anomalous=Rate.from_proto(label.anomalous) if label.HasField("anomalous") else None,
            pixels=PixelEvaluation.from_proto(label.pixels) if label.HasField("pixels") else None,
        )


@dataclass(frozen=True)
class ItemScore:
    """Score of an item."""

    item_id: str
    label: str
    """Its first label."""

    score: float
    aligned: bool
    category: str = ""
    """The category that it was judged as."""

    @classmethod
    def from_proto(cls, item: anomaly_pb2.ItemScore) -> Self:
        """From the wire."""
        return cls(item.item_id, item.label, item.score, item.aligned, item.category)


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
    f1: float | None
    """Of the verdicts on anomalies, 0 to 1; None without a threshold."""

    pixels: PixelEvaluation | None
    """None where no item has a mask."""

    shortcuts: tuple[Shortcut, ...]
    """What would be reached without looking at the part."""

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
            f1=response.f1 if response.HasField("f1") else None,
            pixels=PixelEvaluation.from_proto(response.pixels) if response.HasField("pixels") else None,
            shortcuts=tuple(map(Shortcut.from_proto, response.shortcuts)),
        )
