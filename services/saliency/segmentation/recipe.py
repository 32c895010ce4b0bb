"""How a segmenter is trained: plain values."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from services.runtime.errors import InvalidArgument
from services.saliency.backbones import DEFAULT_BACKBONE, SMALL
from services.saliency.recipe import Watch
from services.saliency.segmentation.dense_crf import Edges

__all__ = ["EPOCHS", "Engine", "Recipe", "Watch", "count_epochs"]

MOST_EPOCHS = 500
EPOCHS = 12
LEAST_STEPS = 500  # fewer leave what starts from nothing unlearnt, however often it sees each picture


class Engine(StrEnum):
    """How it learns: SEC is the baseline, REFINED what came after it."""

    SEC = "sec"
    REFINED = "refined"


RATES = {Engine.SEC: 0.001, Engine.REFINED: 0.002}


@dataclass(frozen=True)
class Recipe:
    """Every value is checked once, here; the decays and the edges are SEC's.

    Attributes:
        backbone: of timm, or "small".
        epochs: rounds over the items; None for `EPOCHS`, or of few items what `LEAST_STEPS` take.
        learning_rate: of what starts from nothing, None for the engine's own; what is pretrained learns, if at
            all, at a tenth of it.
        batch_size: pictures a step.
        present_decay: d+ of rank pooling: how much of a picture an object fills.
        absent_decay: d- of rank pooling.
        background_decay: d_bg of rank pooling.
        seed: of what starts from nothing, order and mirroring.
        seeding: whether the cues are learnt.
        expansion: whether the labels are.
        constraint: whether the edges of the dense CRF are.
        edges: of the dense CRF.
        engine: how it learns.
    """

    backbone: str = DEFAULT_BACKBONE
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 8
    present_decay: float = 0.996
    absent_decay: float = 0.0
    background_decay: float = 0.999
    seed: int = 0
    seeding: bool = True
    expansion: bool = True
    constraint: bool = True
    edges: Edges = field(default_factory=Edges)
    engine: Engine = Engine.REFINED

    def __post_init__(self) -> None:
        if self.epochs is not None:
            _check_range("epochs", self.epochs, 1, MOST_EPOCHS)
        _check_range("batch_size", self.batch_size, 1, 64)
        for name in ("present_decay", "absent_decay", "background_decay"):
            _check_range(name, getattr(self, name), 0, 1)
        if not 0 < self.rate <= 0.1:
            raise InvalidArgument("learning_rate", f"must be above 0 and at most 0.1, is {self.rate:g}")
        if not (self.seeding or self.expansion or self.constraint):
            raise InvalidArgument("seeding", "must be true where expansion and constraint are left out")

    @property
    def starts_from_nothing(self) -> bool:
        """Whether there is no pretrained backbone."""
        return self.backbone == SMALL

    @property
    def local(self) -> bool:
        """Whether positions are scored by what lies near them alone, see `network.py`."""
        return self.engine is Engine.REFINED and not self.starts_from_nothing

    @property
    def rate(self) -> float:
        """The learning rate."""
        return RATES[self.engine] if self.learning_rate is None else self.learning_rate

    @property
    def stride(self) -> int:
        """Of the finest map, pixels: SEC's own is 8, which the small network has alone."""
        return 8 if self.engine is Engine.SEC or self.starts_from_nothing else 4


def count_epochs(usual: int, pictures: int, batch_size: int) -> int:
    """Rounds over pictures: the usual ones, and more of few pictures."""
    return min(max(usual, math.ceil(LEAST_STEPS / math.ceil(pictures / batch_size))), MOST_EPOCHS)


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidArgument(name, f"must be {least:g} to {most:g}, is {value:g}")
