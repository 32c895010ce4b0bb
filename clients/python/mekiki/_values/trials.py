"""Configurations of detectors side by side, each tried with several seeds."""

from dataclasses import dataclass
from statistics import median
from typing import Self

from mekiki._values.annotation import WeightsOrigin
from mekiki._values.dataset import ItemsLike, to_item_filter
from mekiki._values.engine import DEFAULT_ENGINE, Engine, MetricEngine, PadimEngine, PatchEngine
from mekiki._values.evaluation import Evaluation, ItemScore
from mekiki.anomaly.v1 import anomaly_pb2


@dataclass(frozen=True)
class Configuration:
    """A detector as it would be trained."""

    name: str
    normals: ItemsLike
    """What it is trained on and compared with; with prepared pixels, every image is prepared like these."""

    engine: Engine = DEFAULT_ENGINE
    backbone: str = ""
    """Of timm, or "small"; default "mobilenetv2_100"."""

    seed: int = 0

    def to_proto(self) -> anomaly_pb2.TrainDetectorRequest:
        """For the wire."""
        return anomaly_pb2.TrainDetectorRequest(
            detector=self.name,
            items=to_item_filter(self.normals),
            patch=self.engine.to_proto() if isinstance(self.engine, PatchEngine) else None,
            metric=self.engine.to_proto() if isinstance(self.engine, MetricEngine) else None,
            padim=self.engine.to_proto() if isinstance(self.engine, PadimEngine) else None,
            backbone=self.backbone,
            seed=self.seed,
        )


@dataclass(frozen=True, eq=False)
class Trial:
    """One detector, trained with one seed and measured."""

    seed: int
    evaluation: Evaluation
    """Without scores, curve and threshold."""

    train_s: float
    """Of training and filling the bank."""

    @classmethod
    def from_proto(cls, trial: anomaly_pb2.Trial) -> Self:
        """From the wire."""
        seconds = trial.train_duration.ToNanoseconds() / 1e9
        return cls(trial.seed, Evaluation.from_proto(trial.evaluation), seconds)


@dataclass(frozen=True, eq=False)
class TrialSeries:
    """The trials of one configuration."""

    name: str
    weights: WeightsOrigin
    trials: tuple[Trial, ...]
    scores: tuple[ItemScore, ...]
    """Median of every item's score over the trials."""

    @property
    def median_auroc(self) -> float:
        """Over images."""
        return median(trial.evaluation.image_auroc for trial in self.trials)

    @classmethod
    def from_proto(cls, series: anomaly_pb2.TrialSeries) -> Self:
        """From the wire."""
        return cls(
            name=series.detector,
            weights=WeightsOrigin.from_proto(series.weights),
            trials=tuple(map(Trial.from_proto, series.trials)),
            scores=tuple(map(ItemScore.from_proto, series.scores)),
        )


def read_series(response: anomaly_pb2.RunTrialsResponse) -> tuple[TrialSeries, ...]:
    """All series, from the wire."""
    return tuple(map(TrialSeries.from_proto, response.series))
