"""How a classifier does on the items that were held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.saliency.rates import Rate, make_rate

MAX_CELLS = 10_000
MAX_MISTAKES = 60

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelFigures:
    """How one label does; recall of its own images, precision of those that were taken for it."""

    label: str
    recall: Rate
    precision: Rate


@dataclass(frozen=True)
class Cell:
    """`count` images of `label` were taken for `predicted_label`."""

    label: str
    predicted_label: str
    count: int


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for something else, and how sure that was."""

    item_id: str
    label: str
    predicted_label: str
    probability: float


@dataclass(frozen=True)
class Assessment:
    """What a training tells of its validation items."""

    accuracy: Rate
    labels: tuple[LabelFigures, ...]
    confusion: tuple[Cell, ...]
    """Cells that are not 0, the largest 10,000 of them."""
    mistakes: tuple[Mistake, ...]
    """The surest 60, surest first."""
    calibration_error: float
    raw_calibration_error: float
    held_out_unit_count: int
    look_alike_cosine: float


def tabulate(
    labels: Sequence[str], classes: Integers, predicted: Integers
) -> tuple[Rate, list[LabelFigures], list[Cell]]:
    """Give accuracy, figures by label, and the cells of the confusion matrix, of true and predicted classes (n,)."""
    k = len(labels)
    right = classes[classes == predicted]
    hits, own, taken = (np.bincount(numbers, minlength=k) for numbers in (right, classes, predicted))
    figures = [
        LabelFigures(label, make_rate(int(hit), int(of)), make_rate(int(hit), int(called)))
        for label, hit, of, called in zip(labels, hits, own, taken, strict=True)
    ]
    places, counts = np.unique(classes * k + predicted, return_counts=True)  # never k * k of them
    order = np.argsort(-counts, kind="stable")[:MAX_CELLS]
    pairs = zip(places[order], counts[order], strict=True)
    cells = [Cell(labels[place // k], labels[place % k], int(count)) for place, count in pairs]
    return make_rate(len(right), len(classes)), figures, cells


def list_mistakes(
    labels: Sequence[str], item_ids: Sequence[str], classes: Integers, probabilities: npt.NDArray[np.floating]
) -> list[Mistake]:
    """Give the surest mistakes; none where items have no names. `probabilities` is (n, k)."""
    if not item_ids:
        return []
    predicted, sureness = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != classes)
    worst = wrong[np.argsort(-sureness[wrong], kind="stable")][:MAX_MISTAKES]
    return [
        Mistake(item_ids[index], labels[classes[index]], labels[predicted[index]], float(sureness[index]))
        for index in worst
    ]
