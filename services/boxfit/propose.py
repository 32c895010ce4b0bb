"""From saliency's explanation to proposed annotations, and from proposals to what an item carries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import mekiki
from services.boxfit.calibration import NOTHING_LEARNED, Calibration
from services.boxfit.foreground import ForegroundUse
from services.boxfit.growth import measure_iou
from services.boxfit.learn import Lesson
from services.boxfit.model import Box, FitOptions
from services.boxfit.sight import Sight, Sighting
from services.runtime.errors import FailedPrecondition, InvalidArgument

SOURCE = "boxfit/"
SAME_BOX = 0.95  # IoU; a box a person rejected does not come back a pixel wider


class Seen(Protocol):
    """What a model makes of an image: a classifier's explanation, or a segmenter's outline."""

    @property
    def label(self) -> str:
        """What it is."""

    @property
    def score(self) -> float:
        """How probable, 0 to 1."""

    @property
    def heatmap(self) -> mekiki.Heatmap:
        """Where; all zero where nothing speaks for it."""

    @property
    def views(self) -> tuple[mekiki.Heatmap, ...]:
        """The maps that it is the average of."""

    @property
    def model(self) -> mekiki.ModelRef:
        """Who says so."""

    @property
    def image_width(self) -> int:
        """Pixels."""

    @property
    def image_height(self) -> int:
        """Pixels."""


@dataclass(frozen=True)
class Manner:
    """How images are annotated; see AnnotateImageRequest."""

    options: FitOptions
    review_below: float
    explain: mekiki.ExplainOptions
    calibration: Calibration = NOTHING_LEARNED
    use: ForegroundUse = ForegroundUse.PLAIN_GROUND
    version: int = 0
    """Of the classifier that the calibration holds for; 0 for any."""

    def check_version(self, model: mekiki.ModelRef) -> None:
        """Refuse a calibration that was made with other maps, by FailedPrecondition CALIBRATION_OUTDATED."""
        if self.version and model.version != self.version:
            made = f"was made with version {self.version} of {model.name!r}, which is at version {model.version} now"
            raise FailedPrecondition("CALIBRATION_OUTDATED", f"the calibration {made}: calibrate again")

    def find_lesson(self, label: str) -> Lesson:
        """Give what holds for a label: the calibration's, else the options'."""
        return self.calibration.find(label) or Lesson(label, threshold=self.options.threshold, foreground=self.use)


def pose_sight(explanation: Seen, manner: Manner, max_pixels: int, image: NDArray[np.generic] | None) -> Sight | None:
    """Give what is to be looked at, in pixels of the image as sent; None where nothing in it speaks for the label.

    `image` may be None where the foreground is not asked for.

    Raises:
        InvalidArgument: the image has more than `max_pixels` pixels.
        FailedPrecondition: the calibration is for another version of the classifier.
    """
    size = explanation.image_width, explanation.image_height
    if size[0] * size[1] > max_pixels:
        raise InvalidArgument("image", f"must have at most {max_pixels} pixels, has {size[0]} x {size[1]}")
    manner.check_version(explanation.model)
    heat = np.asarray(explanation.heatmap.values, dtype=np.float32)
    if not heat.any():
        return None
    views = tuple(np.asarray(view.values, dtype=np.float32) for view in explanation.views)
    lesson = manner.find_lesson(explanation.label)
    options = replace(manner.options, threshold=lesson.threshold)
    seen = None if lesson.foreground is ForegroundUse.NEVER else image
    return Sight(heat, views, size, options, lesson.growth, seen, lesson.foreground)


def rate(explanation: Seen, sighting: Sighting) -> float:
    """Give the raw score: the label's probability times how far other ways of looking agree."""
    return explanation.score * sighting.agreement


def propose(explanation: Seen, sightings: Sequence[Sighting], manner: Manner) -> list[mekiki.Annotation]:
    """Make the annotations, best first."""
    model = explanation.model
    rated = [(manner.calibration.confidence.rate(rate(explanation, sighting)), sighting.box) for sighting in sightings]
    return [
        mekiki.Annotation(
            box=mekiki.Box(box.x_min, box.y_min, box.x_max, box.y_max),
            label=explanation.label,
            score=score,
            source=f"{SOURCE}{manner.options.method} saliency/{model.name}@{model.version}",
            state=mekiki.AnnotationState.PROPOSED,
            needs_review=score < manner.review_below,
        )
        for score, box in sorted(rated, key=lambda one: -one[0])
    ]


def is_settled(item: mekiki.Item) -> bool:
    """Whether a person has accepted a box of the item, so that no machine has a say in it any more."""
    return any(annotation.state is mekiki.AnnotationState.ACCEPTED for annotation in item.annotations)


def is_rejected(item: mekiki.Item, proposal: mekiki.Annotation) -> bool:
    """Whether a person has rejected this box for this label before, or one that is hardly another."""
    return any(
        annotation.state is mekiki.AnnotationState.REJECTED
        and annotation.label == proposal.label
        and measure_iou(to_box(annotation.box), to_box(proposal.box)) >= SAME_BOX
        for annotation in item.annotations
    )


def replace_proposals(item: mekiki.Item, proposals: Sequence[mekiki.Annotation]) -> list[mekiki.Annotation]:
    """Put the proposals in place of boxfit's earlier ones; what a person judged or somebody else made stays."""
    kept = [
        annotation
        for annotation in item.annotations
        if annotation.state is not mekiki.AnnotationState.PROPOSED or not annotation.source.startswith(SOURCE)
    ]
    return [*kept, *proposals]


def to_box(box: mekiki.Box) -> Box:
    """The SDK's box as ours."""
    return Box(box.x_min, box.y_min, box.x_max, box.y_max)
