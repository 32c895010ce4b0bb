"""What the demonstration found: values alone, everything that the report and `summary.json` need."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mekiki.report.pictures import Box, Pixels

GOOD = "good"  # the label of normal parts


@dataclass(frozen=True)
class Sizes:
    """How large the data set is, in each of its forms."""

    image_count: int
    original_bytes: int  # the files as they came
    lossless_bytes: int  # exact pixels, in the store
    prepared_bytes: int  # prepared version, in the store
    crf: int  # HEVC rate factor of the prepared version
    frame_width: int  # of the prepared version, pixels
    frame_height: int
    unaligned: tuple[tuple[str, str], ...]  # items that did not align, with the reason


@dataclass(frozen=True)
class Promise:
    """The threshold, and what it promises."""

    threshold: float
    false_alarm_rate: float  # at most this share of normals is called anomalous
    confidence: float  # with this probability
    normal_scores: tuple[float, ...]  # of the normals it was set from


@dataclass(frozen=True, eq=False)
class Judged:
    """A test image and what the detector says of it."""

    item_id: str
    label: str
    score: float
    is_anomalous: bool
    aligned: bool
    pixels: Pixels
    heatmap: NDArray[np.float32]  # (rows, columns) over the whole image, in the scores' unit
    region: Box | None  # the strongest region of an anomalous image
    truth: NDArray[np.bool_] | None  # (h, w) where the defect is; None where nobody knows

    @property
    def is_good(self) -> bool:
        """Whether a person has labelled it normal."""
        return self.label == GOOD


@dataclass(frozen=True, eq=False)
class Journey:
    """One part on its way: as it came, and as it was prepared."""

    item_id: str
    pixels: Pixels
    prepared: Pixels


@dataclass(frozen=True)
class Serving:
    """How fast the answers came."""

    latencies_ms: tuple[float, ...]  # of single calls, one after another
    streamed_count: int
    streamed_s: float
    agreed_count: int  # single calls whose score equals the streamed one to the last bit


@dataclass(frozen=True, eq=False)
class Boxed:
    """An image with the box that was found on it."""

    item_id: str
    label: str
    box: Box
    score: float
    needs_review: bool
    pixels: Pixels
    truth: Box | None  # where the part is; None where nobody knows


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes that were drawn from labels alone."""

    labels: tuple[str, ...]
    train_count: int
    validation_count: int
    validation_accuracy: float
    split_by: str  # "group", "look_alikes" or "image"
    best_epoch: int
    images: tuple[Boxed, ...]
    note: str  # what was labelled, in a sentence
    exported_to: str  # folder of the VOC files, relative to the report


@dataclass(frozen=True, eq=False)
class Masked:
    """An image with the pixels that were found to show its label."""

    item_id: str
    label: str
    mask: NDArray[np.bool_]  # (h, w); nothing where the label was not found
    score: float  # mean probability over these pixels
    pixels: Pixels
    truth: NDArray[np.bool_] | None  # (h, w) where the part is; None where nobody knows


@dataclass(frozen=True, eq=False)
class Masks:
    """Outlines that were learnt from labels alone."""

    labels: tuple[str, ...]
    images: tuple[Masked, ...]


@dataclass(frozen=True)
class Stage:
    """A step of the demonstration and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Circumstances:
    """What it was done with."""

    source: str  # what the images are, in a few words
    started: datetime
    command: str
    versions: tuple[tuple[str, str], ...]
    detector: str  # engine and backbone
    detector_weights: str  # a sentence
    classifier_weights: str  # a sentence; empty without a classifier
    background: str  # a sentence
    weights_missing: bool  # the demonstration fell back to a network without pretrained weights
    stages: tuple[Stage, ...]


@dataclass(frozen=True, eq=False)
class Results:
    """Everything that the demonstration found."""

    circumstances: Circumstances
    sizes: Sizes
    promise: Promise
    judged: tuple[Judged, ...]
    failures: tuple[tuple[str, str], ...]  # files that could not be used, with the reason
    journey: Journey | None
    serving: Serving
    boxes: Boxes | None
    boxes_skipped: str  # why there are no boxes; empty when there are
    masks: Masks | None
    masks_skipped: str  # why there are no masks; empty when there are

    @property
    def good(self) -> tuple[Judged, ...]:
        """Test images of normal parts."""
        return tuple(image for image in self.judged if image.is_good)

    @property
    def bad(self) -> tuple[Judged, ...]:
        """Test images of defective parts."""
        return tuple(image for image in self.judged if not image.is_good)
