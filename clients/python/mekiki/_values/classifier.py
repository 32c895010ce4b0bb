"""How a classifier did on what was held out, and how wanted images are told from others."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from mekiki._values.annotation import ModelRef
from mekiki._values.evaluation import Rate
from mekiki._values.word import word_of
from mekiki.saliency.v1 import saliency_pb2


@dataclass(frozen=True)
class LabelFigures:
    """How a classifier did on one label."""

    label: str
    recall: Rate
    """Of the items with the label, those that were taken for it."""

    precision: Rate
    """Of the items that were taken for the label, those that have it."""

    @classmethod
    def from_proto(cls, figures: saliency_pb2.LabelFigures) -> Self:
        """From the wire."""
        return cls(figures.label, Rate.from_proto(figures.recall), Rate.from_proto(figures.precision))


@dataclass(frozen=True)
class ConfusionCell:
    """Items of one label that were taken for one label."""

    label: str
    predicted_label: str
    count: int

    @classmethod
    def from_proto(cls, cell: saliency_pb2.ConfusionCell) -> Self:
        """From the wire."""
        return cls(cell.label, cell.predicted_label, cell.count)


@dataclass(frozen=True)
class Mistake:
    """A validation item that was taken for something else."""

    item_id: str
    label: str
    predicted_label: str
    probability: float
    """Of the predicted label, calibrated."""

    @classmethod
    def from_proto(cls, mistake: saliency_pb2.Mistake) -> Self:
        """From the wire."""
        return cls(mistake.item_id, mistake.label, mistake.predicted_label, mistake.probability)


@dataclass(frozen=True)
class ClassifierEvaluation:
    """How a classifier did on its validation items."""

    accuracy: Rate
    labels: tuple[LabelFigures, ...]
    confusion: tuple[ConfusionCell, ...]
    """Cells that are not 0."""

    mistakes: tuple[Mistake, ...]
    """The surest first, 60 at most."""

    calibration_error: float
    """Expected calibration error of probabilities as they are served, 0 to 1, on items that did not calibrate them."""

    raw_calibration_error: float
    """The same as the network gives them."""

    held_out_unit_count: int
    """Groups, sets of look-alikes or images that were held out."""

    look_alike_cosine: float
    """Items count as look-alikes from here on; 0 where nothing was split by it."""

    @classmethod
    def from_proto(cls, evaluation: saliency_pb2.ClassifierEvaluation) -> Self:
        """From the wire."""
        return cls(
            accuracy=Rate.from_proto(evaluation.accuracy),
            labels=tuple(map(LabelFigures.from_proto, evaluation.labels)),
            confusion=tuple(map(ConfusionCell.from_proto, evaluation.confusion)),
            mistakes=tuple(map(Mistake.from_proto, evaluation.mistakes)),
            calibration_error=evaluation.calibration_error,
            raw_calibration_error=evaluation.raw_calibration_error,
            held_out_unit_count=evaluation.held_out_unit_count,
            look_alike_cosine=evaluation.look_alike_cosine,
        )


class FilterVerdict(StrEnum):
    """What an image is to somebody who wants some labels."""

    WANTED = "wanted"
    UNWANTED = "unwanted"

    UNLIKE = "unlike"
    """Farther from all that was trained on than images of known kinds are: nobody foresaw it."""


@dataclass(frozen=True)
class Filter:
    """How wanted images are told from others, set from held-out items alone."""

    threshold: float
    """An image is wanted from this probability on."""

    wanted_distance: float
    """An image at a greater distance is not called wanted."""

    unlike_distance: float
    """An image that is not called wanted is unlike anything seen beyond this distance."""

    promised_recall: float
    """Share of the wanted images that will be called wanted, at least, with the confidence asked for."""

    recall: Rate
    """Held-out items with wanted labels that are called wanted."""

    precision: Rate
    """Of the held-out items that are called wanted, those with wanted labels."""

    needed_count: int
    """Held-out items with wanted labels that the recall asked for needs."""

    held_out_unit_count: int
    """Groups, sets of look-alikes or images of the held-out items with wanted labels."""

    @classmethod
    def from_proto(cls, chosen: saliency_pb2.Filter) -> Self:
        """From the wire."""
        return cls(
            threshold=chosen.threshold,
            wanted_distance=chosen.wanted_distance,
            unlike_distance=chosen.unlike_distance,
            promised_recall=chosen.promised_recall,
            recall=Rate.from_proto(chosen.recall),
            precision=Rate.from_proto(chosen.precision),
            needed_count=chosen.needed_count,
            held_out_unit_count=chosen.held_out_unit_count,
        )


@dataclass(frozen=True)
class FilteredImage:
    """Whether an image is wanted."""

    verdict: FilterVerdict
    probability: float
    """Of the wanted labels together, calibrated."""

    distance: float
    """Cosine distance to the nearest image that was trained on, 0 to 2."""

    filter: Filter
    model: ModelRef

    @classmethod
    def from_proto(cls, response: saliency_pb2.FilterImageResponse) -> Self:
        """From the wire."""
        return cls(
            verdict=FilterVerdict(word_of(saliency_pb2.FilterVerdict, response.verdict)),
            probability=response.probability,
            distance=response.distance,
            filter=Filter.from_proto(response.filter),
            model=ModelRef.from_proto(response.model),
        )
