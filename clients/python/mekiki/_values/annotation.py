"""What two services or more speak of: boxes, labels, annotations, and who made an answer."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from mekiki._values.word import number_of, word_of
from mekiki.types.v1 import types_pb2


def time_of(timestamp: Timestamp) -> datetime:
    """A moment of the wire, in UTC."""
    return timestamp.ToDatetime(tzinfo=UTC)


@dataclass(frozen=True)
class Box:
    """A half-open pixel box: x_min <= x < x_max, y_min <= y < y_max; the origin is top left."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int

    @property
    def width(self) -> int:
        """Columns, pixels."""
        return self.x_max - self.x_min

    @property
    def height(self) -> int:
        """Rows, pixels."""
        return self.y_max - self.y_min

    @classmethod
    def from_proto(cls, box: types_pb2.Box) -> Self:
        """From the wire."""
        return cls(box.x_min, box.y_min, box.x_max, box.y_max)

    def to_proto(self) -> types_pb2.Box:
        """For the wire."""
        return types_pb2.Box(x_min=self.x_min, y_min=self.y_min, x_max=self.x_max, y_max=self.y_max)


@dataclass(frozen=True)
class LabelScore:
    """A label with the probability, 0 to 1, that a model gave it."""

    label: str
    score: float

    @classmethod
    def from_proto(cls, label: types_pb2.LabelScore) -> Self:
        """From the wire."""
        return cls(label.label, label.score)


class AnnotationState(StrEnum):
    """What a person has said of an annotation."""

    PROPOSED = "proposed"
    """Nobody has looked yet."""

    ACCEPTED = "accepted"
    """A person accepted it; no machine overwrites it."""

    REJECTED = "rejected"
    """A person rejected it."""


@dataclass(frozen=True)
class Annotation:
    """A labelled box on an item, with who or what made it."""

    box: Box
    """Where, in pixels of the original image."""

    label: str
    """What."""

    score: float = 1.0
    """Confidence of a machine's proposal, 0 to 1; 1 for a person's."""

    source: str = ""
    """Who or what made it, such as "boxfit/exact saliency/parts@3" or a person's name."""

    state: AnnotationState = AnnotationState.PROPOSED
    """What a person has said of it."""

    needs_review: bool = False
    """The machine was unsure: a person should look at it first."""

    annotation_id: str = ""
    """Unique within the item; given by the server when empty."""

    @classmethod
    def from_proto(cls, annotation: types_pb2.Annotation) -> Self:
        """From the wire."""
        return cls(
            box=Box.from_proto(annotation.box),
            label=annotation.label,
            score=annotation.score,
            source=annotation.source,
            state=AnnotationState(word_of(types_pb2.AnnotationState, annotation.state) or "proposed"),
            needs_review=annotation.needs_review,
            annotation_id=annotation.annotation_id,
        )

    def to_proto(self) -> types_pb2.Annotation:
        """For the wire."""
        return types_pb2.Annotation(
            annotation_id=self.annotation_id,
            box=self.box.to_proto(),
            label=self.label,
            score=self.score,
            source=self.source,
            state=number_of(types_pb2.AnnotationState, self.state),
            needs_review=self.needs_review,
        )


@dataclass(frozen=True)
class ModelRef:
    """Which model made an answer."""

    name: str
    version: int
    bank_version: int = 0
    """Version of the bank of normals that was searched; 0 where the model has none."""

    @classmethod
    def from_proto(cls, model: types_pb2.ModelRef) -> Self:
        """From the wire."""
        return cls(model.name, model.version, model.bank_version)


@dataclass(frozen=True)
class WeightsOrigin:
    """Where a model's starting weights came from."""

    backbone: str
    source: str
    """"directory", "cache", "hub", or "none" for a network trained on the spot."""

    description: str
    """A sentence for people: what was used, and what to do for better weights."""

    @classmethod
    def from_proto(cls, weights: types_pb2.WeightsOrigin) -> Self:
        """From the wire."""
        return cls(weights.backbone, weights.source, weights.description)


@dataclass(frozen=True, eq=False)
class Affine:
    """Maps centres of pixels (x, y, 1) by a matrix; the first pixel's centre is (0, 0)."""

    matrix: NDArray[np.float64]  # (2, 3) float64

    @classmethod
    def from_proto(cls, affine: types_pb2.Affine) -> Self:
        """From the wire."""
        return cls(np.array([[affine.xx, affine.xy, affine.tx], [affine.yx, affine.yy, affine.ty]]))

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 2) of the original, x first, in the prepared image."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> "Affine":
        """The map back, from the prepared image to the original."""
        turn = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([turn, -turn @ self.matrix[:, 2]]))
