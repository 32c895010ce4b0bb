"""What goes into a training and what comes out of it: plain values."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.runtime.errors import InvalidArgument
from services.saliency.assessment import Assessment
from services.saliency.backbones import DEFAULT_BACKBONE, SMALL
from services.saliency.calibration import Calibration
from services.saliency.network import Network
from services.saliency.pictures import Pixels

DEFAULT_EPOCHS = 12
DEFAULT_EPOCHS_FROM_SCRATCH = 60  # a network that starts from nothing needs more rounds, and is small enough for them
ORIGINAL_EPOCHS = 25
CENTRE = 7 / 8  # of the shorter side: what the original cuts out of an image, 224 of 256 pixels


class RecipeName(StrEnum):
    """THAWED: the last layer first, then the deeper half (`thaw.py`); ORIGINAL: all at once, as of old."""

    THAWED = "thawed"
    ORIGINAL = "original"


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch on the validation images; `number` counts from 1."""

    number: int
    loss: float
    accuracy: float
    balanced_accuracy: float
    """Mean of the recalls of the labels that have validation images: a rare label counts as much as a common one."""


@dataclass(frozen=True)
class Recipe:
    """How to train. `epochs` None takes the default for recipe and backbone; every value is checked once, here."""

    backbone: str = DEFAULT_BACKBONE
    epochs: int | None = None
    learning_rate: float = 0.003
    """Of the last layer; the backbone learns at four tenths of it. With ORIGINAL of all layers."""
    batch_size: int = 16
    validation_fraction: float = 0.2
    seed: int = 0
    name: RecipeName = RecipeName.THAWED

    def __post_init__(self) -> None:
        _check_range("epochs", self.rounds, 1, 500)
        _check_range("batch_size", self.batch_size, 1, 256)
        _check_range("validation_fraction", self.validation_fraction, 0.05, 0.5)
        if not 0 < self.learning_rate <= 1:
            raise InvalidArgument("learning_rate", f"{self.learning_rate:g} is outside (0, 1]")

    @property
    def starts_from_nothing(self) -> bool:
        """Whether there is no pretrained backbone to keep frozen."""
        return self.backbone == SMALL

    @property
    def rounds(self) -> int:
        """Epochs in all, where nothing ends them early."""
        if self.epochs is not None:
            return self.epochs
        if self.name is RecipeName.ORIGINAL:
            return ORIGINAL_EPOCHS
        return DEFAULT_EPOCHS_FROM_SCRATCH if self.starts_from_nothing else DEFAULT_EPOCHS

    def rank(self, epoch: Epoch) -> tuple[float, ...]:
        """The higher, the better: balanced accuracy, then low loss, since few images give many ties.

        The original looked at the accuracy alone.
        """
        if self.name is RecipeName.ORIGINAL:
            return (epoch.accuracy,)
        return (epoch.balanced_accuracy, -epoch.loss)

    def find_stored_size(self, input_size: int) -> int:
        """Tell the side of the square that training pictures are stored at, for a network's input of that side."""
        return round(input_size / CENTRE) if self.name is RecipeName.ORIGINAL else input_size

    def find_input_size(self, stored_size: int) -> int:
        """The way back from `find_stored_size`."""
        return round(stored_size * CENTRE) if self.name is RecipeName.ORIGINAL else stored_size


def _check_range(field_name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgument(field_name, f"{value:g} is outside {low:g} to {high:g}")


_RECIPES = {
    RecipeName.THAWED: Recipe(),
    RecipeName.ORIGINAL: Recipe(backbone="vgg16", learning_rate=0.001, batch_size=4, name=RecipeName.ORIGINAL),
}


def find_recipe(name: RecipeName) -> Recipe:
    """Give a recipe with all its defaults."""
    return _RECIPES[name]


@dataclass(frozen=True)
class TrainingSet:
    """Labelled pictures, squeezed to `Recipe.find_stored_size`; `groups` holds "" where an item has none."""

    pictures: Pixels  # (n, s, s, 3) uint8, may be a read-only memory map
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    item_ids: tuple[str, ...] = ()
    """What mistakes are named by; none are named where it is empty."""
    aspects: tuple[float, ...] = ()
    """Width by height of each image as it came, which the original recipe restores; empty: all were square."""


def number_labels(labels: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Give the distinct labels in alphabetical order, and each image's number among them, (n,) int64.

    Raises InvalidArgument naming the labels found where there are fewer than two, or one has a single image.
    """
    counts = Counter(labels)
    names = tuple(sorted(counts))
    if len(names) < 2:
        found = f"only {names[0]!r} ({counts[names[0]]} images)" if names else "none"
        raise InvalidArgument("items", f"a classifier needs two labels or more; found {found}")
    lonely = [name for name in names if counts[name] < 2]
    if lonely:
        told = ", ".join(repr(name) for name in lonely[:5])
        raise InvalidArgument("items", f"a label needs two images or more; {told} has one")
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers[label] for label in labels], dtype=np.int64)


@dataclass(frozen=True)
class Training:
    """A trained network, still on the training's device, and how it came about."""

    network: Network
    labels: tuple[str, ...]
    calibration: Calibration
    assessment: Assessment
    split_by: str
    mirrored: bool
    """Whether mirror images were trained on too; not where the labels tell left from right."""
    train_count: int
    validation_count: int
    best: Epoch
    history: tuple[Epoch, ...]


class Report(Protocol):
    """Takes progress; raises Cancelled when asked to stop."""

    def __call__(self, phase: str, done: int, total: int, **metrics: float) -> None:
        """Say that `done` of `total` steps of `phase` are over (total 0: unknown), with figures so far."""


def _report_nothing(phase: str, done: int, total: int, **metrics: float) -> None:
    del phase, done, total, metrics


def _save_nothing(data: bytes) -> None:
    del data


@dataclass(frozen=True)
class Watch:
    """Where a training reports, keeps its checkpoints, and what it had when it was interrupted."""

    report: Report = field(default=_report_nothing)
    save: Callable[[bytes], None] = field(default=_save_nothing)
    resume: bytes | None = None
