"""What goes into a detector's training and what comes out of it: plain values."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.runtime.errors import InvalidArgument
from services.saliency.backbones import DEFAULT_BACKBONE, SMALL
from services.saliency.detection.letterbox import Boxes
from services.saliency.pictures import Pixels
from services.saliency.recipe import Report, Watch

__all__ = ["Epoch", "PictureSet", "Recipe", "Report", "Watch", "find_default_size"]

MIN_INPUT_SIZE = 64  # pixels: two cells of the coarsest map
DEFAULT_INPUT_SIZE = 320
SMALL_INPUT_SIZE = 128

PICTURES_SEEN = 4000
"""In a training of default length: some ten minutes on a core, whether they come from few items or many."""
FEWEST_EPOCHS, MOST_DEFAULT_EPOCHS = 4, 100


def find_default_size(backbone: str) -> int:
    """Tell the side of the square where none is asked for, pixels."""
    return SMALL_INPUT_SIZE if backbone == SMALL else DEFAULT_INPUT_SIZE


@dataclass(frozen=True)
class Recipe:
    """How to train. `epochs` None takes as many as show PICTURES_SEEN; every value is checked once, here."""

    backbone: str = DEFAULT_BACKBONE
    epochs: int | None = None
    learning_rate: float = 0.001
    """Of what starts from nothing; what is pretrained learns at a tenth of it."""
    batch_size: int = 8
    validation_fraction: float = 0.2
    scene_share: float = 0.7
    """Of the pictures that are composed of several items."""
    upright: bool = False
    """Objects are neither turned nor mirrored."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check_range("epochs", self.epochs or 1, 1, 500)
        _check_range("batch_size", self.batch_size, 1, 64)
        _check_range("validation_fraction", self.validation_fraction, 0.05, 0.5)
        _check_range("scene_share", self.scene_share, 0, 1)
        if not 0 < self.learning_rate <= 0.1:
            raise InvalidArgument("learning_rate", f"must be above 0 and at most 0.1, is {self.learning_rate:g}")

    @property
    def starts_from_nothing(self) -> bool:
        """Whether there is no pretrained backbone."""
        return self.backbone == SMALL

    def count_rounds(self, items: int) -> int:
        """Epochs in all over so many items."""
        if self.epochs is not None:
            return self.epochs
        return min(MOST_DEFAULT_EPOCHS, max(FEWEST_EPOCHS, math.ceil(PICTURES_SEEN / items)))


def _check_range(field_name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgument(field_name, f"must be {low:g} to {high:g}, is {value:g}")


@dataclass(frozen=True)
class PictureSet:
    """Pictures in their squares with the boxes of what is on them; `groups` holds "" where an item has none."""

    pixels: Pixels  # (n, s, s, 3) uint8, may be a read-only memory map
    extents: npt.NDArray[np.int64]  # (n, 2): width and height of the image in its square
    boxes: tuple[Boxes, ...]  # of each picture, in pixels of the square
    classes: tuple[npt.NDArray[np.int64], ...]
    labels: tuple[str, ...]
    """Names of the classes, in alphabetical order."""
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch; `number` counts from 1."""

    number: int
    loss: float
    """Mean over the steps."""
    mean_average_precision: float
    mean_average_precision_50: float

    @property
    def rank(self) -> tuple[float, float, int]:
        """The higher, the better; of equals the later one, which saw more."""
        return (self.mean_average_precision, self.mean_average_precision_50, self.number)
