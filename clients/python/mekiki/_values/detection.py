"""Object detectors, and what they find."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from mekiki._values.annotation import Annotation, Box, ModelRef, WeightsOrigin, time_of
from mekiki.saliency.v1 import saliency_pb2


@dataclass(frozen=True)
class ObjectDetector:
    """A trained object detector."""

    name: str
    version: int
    labels: tuple[str, ...]
    """Of the objects that it finds."""

    weights: WeightsOrigin
    input_size: int
    """Side of the square that an image is fitted into, pixels."""

    mean_average_precision: float
    """Of the kept epoch on held-out items and on scenes composed of them, over IoU .5, .55 ... .95, 0 to 1."""

    mean_average_precision_50: float
    """The same at IoU .5 alone."""

    split_by: str
    """"group" when no group of items is on both sides; see `Classifier.split_by`."""

    train_count: int
    validation_count: int
    box_count: int
    """Boxes on the items trained on."""

    left_out_count: int
    """Items left out: damaged, or whose only boxes are rejected, or proposed where only accepted ones count."""

    best_epoch: int
    create_time: datetime

    @classmethod
    def from_proto(cls, detector: saliency_pb2.ObjectDetector) -> Self:
        """From the wire."""
        return cls(
            name=detector.name,
            version=detector.version,
            labels=tuple(detector.labels),
            weights=WeightsOrigin.from_proto(detector.weights),
            input_size=detector.input_size,
            mean_average_precision=detector.mean_average_precision,
            mean_average_precision_50=detector.mean_average_precision_50,
            split_by=detector.split_by,
            train_count=detector.train_count,
            validation_count=detector.validation_count,
            box_count=detector.box_count,
            left_out_count=detector.left_out_count,
            best_epoch=detector.best_epoch,
            create_time=time_of(detector.create_time),
        )


@dataclass(frozen=True)
class DetectedObject:
    """An object that was found."""

    box: Box
    """Where, in pixels of the image as sent."""

    label: str
    score: float
    """How sure, 0 to 1."""

    @classmethod
    def from_proto(cls, found: saliency_pb2.DetectedObject) -> Self:
        """From the wire."""
        return cls(Box.from_proto(found.box), found.label, found.score)


@dataclass(frozen=True)
class Detection:
    """What was found in an image."""

    objects: tuple[DetectedObject, ...]
    """Surest first."""

    model: ModelRef
    image_width: int
    """Width of the image as sent, pixels."""

    image_height: int
    """Height of the image as sent, pixels."""

    @classmethod
    def from_proto(cls, response: saliency_pb2.DetectObjectsResponse) -> Self:
        """From the wire."""
        return cls(
            objects=tuple(map(DetectedObject.from_proto, response.objects)),
            model=ModelRef.from_proto(response.model),
            image_width=response.image_width,
            image_height=response.image_height,
        )

    def to_annotations(self, *, review_below: float = 0.5) -> tuple[Annotation, ...]:
        """The objects as proposals for a person; those with a score below `review_below` are to be looked at first."""
        source = f"saliency/{self.model.name}@{self.model.version}"
        return tuple(
            Annotation(found.box, found.label, found.score, source, needs_review=found.score < review_below)
            for found in self.objects
        )
