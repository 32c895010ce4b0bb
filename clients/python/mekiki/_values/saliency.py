"""What saliency gives: classifiers, classifications, explanations."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from mekiki._values.annotation import LabelScore, ModelRef, WeightsOrigin, time_of
from mekiki._values.classifier import ClassifierEvaluation
from mekiki._values.image import Heatmap
from mekiki._values.word import word_of
from mekiki.saliency.v1 import saliency_pb2


class ExplainMethod(StrEnum):
    """How an image is explained."""

    CAM = "cam"
    """Class activation map in closed form (Zhou et al., 2016)."""

    GRAD_CAM = "grad_cam"
    """Gradient-weighted class activation map (Selvaraju et al., 2017)."""

    GRAD_CAM_PLUS_PLUS = "grad_cam_plus_plus"
    """Finds several things of a class in one image better (Chattopadhay et al., 2018)."""

    LAYER_CAM = "layer_cam"
    """Weighs every position by itself, for layers with detail (Jiang et al., 2021)."""

    EIGEN_CAM = "eigen_cam"
    """What the layer sees most of, whatever the label (Muhammad and Yeasin, 2020)."""


class ClassifierRecipe(StrEnum):
    """How a classifier learns."""

    THAWED = "thawed"
    """The last layer first, then the deeper half of the backbone; images are squeezed whole."""

    ORIGINAL = "original"
    """All layers at once by SGD, as of old; of an image that is to be classified the centre is cut out."""


@dataclass(frozen=True)
class Classifier:
    """A trained classifier."""

    name: str
    version: int
    labels: tuple[str, ...]
    weights: WeightsOrigin
    input_size: int
    validation_accuracy: float
    """Of the kept epoch, 0 to 1."""

    split_by: str
    """"group" when no group of items is on both sides, "look_alikes" when items had no groups and no look-alikes are on
    both sides, else "image" (which flatters the accuracy)."""

    train_count: int
    validation_count: int
    best_epoch: int
    create_time: datetime
    recipe: ClassifierRecipe = ClassifierRecipe.THAWED
    temperature: float = 1.0
    """What the network's outputs are divided by, so that probabilities are calibrated; 1 for old ones."""

    evaluation: ClassifierEvaluation | None = None
    """How it did on the validation items; None in lists, and for old ones."""

    @classmethod
    def from_proto(cls, classifier: saliency_pb2.Classifier) -> Self:
        """From the wire."""
        return cls(
            name=classifier.name,
            version=classifier.version,
            labels=tuple(classifier.labels),
            weights=WeightsOrigin.from_proto(classifier.weights),
            input_size=classifier.input_size,
            validation_accuracy=classifier.validation_accuracy,
            split_by=classifier.split_by,
            train_count=classifier.train_count,
            validation_count=classifier.validation_count,
            best_epoch=classifier.best_epoch,
            create_time=time_of(classifier.create_time),
            recipe=ClassifierRecipe(word_of(saliency_pb2.ClassifierRecipe, classifier.recipe) or "thawed"),
            temperature=classifier.temperature or 1.0,
            evaluation=ClassifierEvaluation.from_proto(classifier.evaluation)
            if classifier.HasField("evaluation")
            else None,
        )


@dataclass(frozen=True)
class Classification:
    """What is in an image."""

    labels: tuple[LabelScore, ...]
    """All labels, most probable first."""

    model: ModelRef

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.labels[0].label

    @classmethod
    def from_proto(cls, response: saliency_pb2.ClassifyImageResponse) -> Self:
        """From the wire."""
        return cls(tuple(map(LabelScore.from_proto, response.labels)), ModelRef.from_proto(response.model))


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which pixels speak for a label."""

    heatmap: Heatmap
    """Scaled to a maximum of 1; all zero where nothing speaks for the label."""

    label: str
    """The label that was explained."""

    score: float
    """Its probability, 0 to 1."""

    labels: tuple[LabelScore, ...]
    """All labels, most probable first."""

    model: ModelRef
    method: ExplainMethod
    image_width: int
    """Width of the image as sent, pixels."""

    image_height: int
    """Height of the image as sent, pixels."""

    views: tuple[Heatmap, ...] = ()
    """The maps that `heatmap` is the average of, where they were asked for."""

    @classmethod
    def from_proto(cls, response: saliency_pb2.ExplainImageResponse) -> Self:
        """From the wire."""
        return cls(
            heatmap=Heatmap.from_proto(response.heatmap),
            label=response.label,
            score=response.score,
            labels=tuple(map(LabelScore.from_proto, response.labels)),
            model=ModelRef.from_proto(response.model),
            method=ExplainMethod(word_of(saliency_pb2.ExplainMethod, response.method) or "cam"),
            image_width=response.image_width,
            image_height=response.image_height,
            views=tuple(map(Heatmap.from_proto, response.views)),
        )
