"""How a detector tells normal from not."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from mekiki._values.word import number_of, word_of
from mekiki.anomaly.v1 import anomaly_pb2


@dataclass(frozen=True)
class PatchEngine:
    """Patch features of several levels against those of the normals. None takes the service's default."""

    input_side: int | None = None
    """Longer side that images are resized to, 64 to 1024 pixels; default 640 for prepared images, else 384."""

    coreset_fraction: float | None = None
    """Share of an item's patches that is kept where images are not aligned, 0.001 to 1; default 0.1."""

    same_place: bool | None = None
    """Whether every image shows the part at the same place: patches are then compared with those around it alone, and
    images that are not prepared are stretched to a square; default true for prepared images that were aligned."""

    def to_proto(self) -> anomaly_pb2.PatchEngine:
        """For the wire."""
        return anomaly_pb2.PatchEngine(
            input_side=self.input_side, coreset_fraction=self.coreset_fraction, same_place=self.same_place
        )

    @classmethod
    def from_proto(cls, engine: anomaly_pb2.PatchEngine) -> Self:
        """From the wire."""
        return cls(
            input_side=engine.input_side if engine.HasField("input_side") else None,
            coreset_fraction=engine.coreset_fraction if engine.HasField("coreset_fraction") else None,
            same_place=engine.same_place if engine.HasField("same_place") else None,
        )


DEFAULT_ENGINE = PatchEngine()


class MetricLoss(StrEnum):
    """Loss of the metric engine."""

    L2_SOFTMAX = "l2_softmax"
    """L2-constrained softmax; with recipe ORIGINAL scored by the local outlier factor."""

    ARCFACE = "arcface"
    """Additive angular margin; scored by the largest cosine to a normal."""

    ADACOS = "adacos"
    """Adaptively scaled cosine; scored by the largest cosine to a normal."""


class MetricRecipe(StrEnum):
    """What the metric engine compares."""

    ORIGINAL = "original"
    """One vector per image; heat maps by Grad-CAM of the made-up classes."""

    PATCHES = "patches"
    """One vector for every 8 x 8 pixels, each with a class of its own and compared with the nearest normal one."""


@dataclass(frozen=True)
class MetricEngine:
    """Self-supervised metric learning on classes made from normals. None takes the service's default."""

    loss: MetricLoss = MetricLoss.ADACOS
    class_count: int | None = None
    """2 (normal, line) or 3 (and distortion); default 3."""

    epochs: int | None = None
    """Rounds over the items, 1 to 500; default 5, with recipe ORIGINAL 10."""

    input_size: int | None = None
    """Images get the pixels of a square of this side, aspect ratio kept; 32 to 1024, a multiple of 32; default 224."""

    recipe: MetricRecipe = MetricRecipe.PATCHES

    def to_proto(self) -> anomaly_pb2.MetricEngine:
        """For the wire."""
        return anomaly_pb2.MetricEngine(
            loss=number_of(anomaly_pb2.MetricLoss, self.loss),
            class_count=self.class_count,
            epochs=self.epochs,
            input_size=self.input_size,
            recipe=number_of(anomaly_pb2.MetricRecipe, self.recipe),
        )

    @classmethod
    def from_proto(cls, engine: anomaly_pb2.MetricEngine) -> Self:
        """From the wire."""
        return cls(
            loss=MetricLoss(word_of(anomaly_pb2.MetricLoss, engine.loss) or "adacos"),
            class_count=engine.class_count if engine.HasField("class_count") else None,
            epochs=engine.epochs if engine.HasField("epochs") else None,
            input_size=engine.input_size if engine.HasField("input_size") else None,
            recipe=MetricRecipe(word_of(anomaly_pb2.MetricRecipe, engine.recipe) or "patches"),
        )


@dataclass(frozen=True)
class PadimEngine:
    """A Gaussian of the features at every position (PaDiM); for images in one pose, and for textures.

    None takes the service's default.
    """

    input_side: int | None = None
    """Longer side that images are resized to, 64 to 1024 pixels; default 640 for prepared images, else 384."""

    dimension: int | None = None
    """Channels that are kept, drawn at random, 1 to 600; default 100."""

    def to_proto(self) -> anomaly_pb2.PadimEngine:
        """For the wire."""
        return anomaly_pb2.PadimEngine(input_side=self.input_side, dimension=self.dimension)

    @classmethod
    def from_proto(cls, engine: anomaly_pb2.PadimEngine) -> Self:
        """From the wire."""
        return cls(
            input_side=engine.input_side if engine.HasField("input_side") else None,
            dimension=engine.dimension if engine.HasField("dimension") else None,
        )


Engine = PatchEngine | MetricEngine | PadimEngine
"""How a detector tells normal from not."""


def read_engine(detector: anomaly_pb2.Detector | anomaly_pb2.TrainDetectorRequest) -> Engine:
    """The engine of a detector, from the wire."""
    match detector.WhichOneof("engine"):
        case "metric":
            return MetricEngine.from_proto(detector.metric)
        case "padim":
            return PadimEngine.from_proto(detector.padim)
        case _:
            return PatchEngine.from_proto(detector.patch)
