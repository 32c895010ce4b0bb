"""Segmenters, and which pixels they find to show what."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mekiki._values.annotation import Annotation, Box, ModelRef, WeightsOrigin, time_of
from mekiki._values.image import from_mask
from mekiki._values.word import word_of
from mekiki.saliency.v1 import saliency_pb2


class SegmentationEngine(StrEnum):
    """How a segmenter learns."""

    SEC = "sec"
    """Seed, expand and constrain (Kolesnikov and Lampert, 2016): the baseline."""

    REFINED = "refined"
    """The default: small heads learn where images speak for their labels, and the network learns from that."""


class SegmentationLoss(StrEnum):
    """A loss of seed, expand and constrain."""

    SEEDING = "seeding"
    """Of the cues: where an image certainly shows what its labels say, and where certainly nothing."""

    EXPANSION = "expansion"
    """Of the labels: what an image shows fills some of it, what it does not show no pixel."""

    CONSTRAINT = "constraint"
    """Of the edges: scores follow those of the image."""


@dataclass(frozen=True)
class Segmenter:
    """A trained segmenter."""

    name: str
    version: int
    labels: tuple[str, ...]
    """Of what it tells apart; all else is background."""

    engine: SegmentationEngine
    weights: WeightsOrigin
    input_size: int
    """Side of the square the image is resized to, pixels."""

    train_count: int
    left_out_count: int
    """Items left out: damaged, or without a label."""

    masked_count: int
    """Of the items trained on, those whose mask or trimap was learnt from."""

    create_time: datetime

    @classmethod
    def from_proto(cls, segmenter: saliency_pb2.Segmenter) -> Self:
        """From the wire."""
        return cls(
            name=segmenter.name,
            version=segmenter.version,
            labels=tuple(segmenter.labels),
            engine=SegmentationEngine(word_of(saliency_pb2.SegmentationEngine, segmenter.engine) or "refined"),
            weights=WeightsOrigin.from_proto(segmenter.weights),
            input_size=segmenter.input_size,
            train_count=segmenter.train_count,
            left_out_count=segmenter.left_out_count,
            masked_count=segmenter.masked_count,
            create_time=time_of(segmenter.create_time),
        )


@dataclass(frozen=True, eq=False)
class Segment:
    """What an image shows of one label."""

    label: str
    mask: NDArray[np.bool_]
    """(h, w) of the image as sent; no pixel is in two segments."""

    box: Box
    """Around the pixels of the mask."""

    area_px: int
    area_mm2: float | None
    """None where the size of a pixel was not given."""

    score: float
    """Mean probability of the label over these pixels, 0 to 1."""

    @classmethod
    def from_proto(cls, segment: saliency_pb2.Segment) -> Self:
        """From the wire."""
        return cls(
            label=segment.label,
            mask=from_mask(segment.mask),
            box=Box.from_proto(segment.box),
            area_px=segment.area_px,
            area_mm2=segment.area_mm2 if segment.HasField("area_mm2") else None,
            score=segment.score,
        )


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Which pixels of an image show what."""

    segments: tuple[Segment, ...]
    """One for each label that has a pixel, in the order of the segmenter's labels."""

    model: ModelRef
    image_width: int
    """Width of the image as sent, pixels."""

    image_height: int
    """Height of the image as sent, pixels."""

    @classmethod
    def from_proto(cls, response: saliency_pb2.SegmentImageResponse) -> Self:
        """From the wire."""
        return cls(
            segments=tuple(map(Segment.from_proto, response.segments)),
            model=ModelRef.from_proto(response.model),
            image_width=response.image_width,
            image_height=response.image_height,
        )

    def label_map(self, labels: Sequence[str] = ()) -> NDArray[np.uint8]:
        """What each pixel shows, (h, w): 0 is background, n the n-th of `labels`, by default those of the segments.

        Raises:
            ValueError: a segment's label is none of `labels`, or there are more than 255.
        """
        order = list(labels) or [segment.label for segment in self.segments]
        if len(order) > 255:
            raise ValueError(f"a map holds at most 255 labels, not {len(order)}")
        drawn = np.zeros((self.image_height, self.image_width), np.uint8)
        for segment in self.segments:
            if segment.label not in order:
                raise ValueError(f"{segment.label!r} is none of the labels: {', '.join(order)}")
            drawn[segment.mask] = order.index(segment.label) + 1
        return drawn

    def to_annotations(self) -> tuple[Annotation, ...]:
        """The boxes of the segments as proposals for a person, in their order."""
        source = f"saliency/{self.model.name}@{self.model.version}"
        return tuple(Annotation(segment.box, segment.label, segment.score, source) for segment in self.segments)
