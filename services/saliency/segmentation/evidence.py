"""Where pictures speak for their labels, asked of networks that see little, and of ones that see much.

A class activation map comes from a network that sees nearly the whole picture at every position, so it may decide by
what lies far from there; of a small object it shows a blob. Here small heads on the frozen backbone learn from labels
alone that *some* positions of a picture show its label (multiple instance learning: Dietterich et al., 1997), all of a
picture without labels shows background, and no position shows a label that the picture does not have:

    look     sees maps of stride   must be shown by
    fine     4 and 8               .3 % of a picture
    compact  8 and 16              3 %, then brought to the edges of the picture by the dense CRF
    filled   8 and 16              15 %
    coarse   16 and 32             15 %

The looks also say what a label's objects are like. *Edged* ones have outlines that the picture shows: the dense CRF
leaves something of the compact look standing, where it erases all of what has none. They may be of any size: the
compact look finds them, large ones in a picture of half the size. *Small* ones cannot fill 15 % of a picture without
the help of a head that sees everything: "filled" is hardly sure of even the largest. *Local* ones are told by what lies
near, so that "fine" tells the pictures that show them as well as "coarse" does. What has no edges, but is small and
local, is looked for by the fine look. All else is *wide*: the coarse look shows that it is there, and SEC where
(`train.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional

from services.saliency.segmentation.losses import LEAST_SCORE
from services.saliency.segmentation.network import LOCAL_CHANNELS, Head
from services.saliency.segmentation.seeds import LEAST_KEPT

T = TypeVar("T")

NARROWING = 0.5  # of the steps
AT_FIRST = 3.0  # log odds of the background before anything is learnt: most of a picture is background
HARDEST_SHARE = 0.01  # of a picture without labels: these positions count once more
TOLERANCE = 0.05  # of an AUROC: differences below it say nothing
MOST_FILLING = 0.65  # how sure "filled" is, at most, of labels whose objects are all small
LARGEST = 0.9  # of the pictures: a label whose objects are of many sizes has most of its pixels in the largest ones


@dataclass(frozen=True)
class Look:
    """What a head sees, of the maps of a body from fine to coarse, and the share of a picture that its label fills."""

    name: str
    first: int
    share: float
    background: float
    """Share of a picture with labels that is taken for background all the same: where most speaks for it."""
    share_at_first: float
    least: float
    """Share of a picture that its seeds take: where nothing speaks for a label, it is put where most does."""


LOOKS = (
    Look("fine", 0, 0.003, 0.9, share_at_first=0.03, least=0.001),
    Look("compact", 1, 0.03, 0.8, share_at_first=0.1, least=0.0005),
    Look("filled", 1, 0.15, 0.6, share_at_first=0.15, least=0.05),
    Look("coarse", 2, 0.15, 0.6, share_at_first=0.15, least=0.05),
)
FINE, COMPACT, FILLED, COARSE = range(len(LOOKS))


class Eyes(nn.Module):
    """A head for each look."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_open_head(_choose(widths, look), classes) for look in LOOKS)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Maps of a body that does not learn, fine to coarse → by look, logits (n, k + 1, h, w)."""
        return [head(_choose(maps, look)) for head, look in zip(self.heads, LOOKS, strict=True)]


def _open_head(widths: Sequence[int], classes: int) -> Head:
    head = Head(widths, classes, LOCAL_CHANNELS, local=True)
    head.score.bias = nn.Parameter(torch.tensor([AT_FIRST] + [0.0] * classes))
    return head


def _choose(maps: Sequence[T], look: Look) -> Sequence[T]:
    """The two maps that a look sees; of a body with fewer, its coarsest ones."""
    first = min(look.first, max(0, len(maps) - 2))
    return maps[first : first + 2]


def widen(look: Look, progress: float) -> Look:
    """What is asked of a look when a share of its steps is taken.

    More of a picture at first: the few positions that most speaks for before anything is learnt are of a small object
    by luck alone, and a head that set out from others stays with them.
    """
    return replace(look, share=look.share * (look.share_at_first / look.share) ** max(0.0, 1 - progress / NARROWING))


def compute_evidence_loss(logits: torch.Tensor, present: torch.Tensor, look: Look) -> torch.Tensor:
    """The loss of each picture, (n,); `logits` (n, k + 1, h, w), `present` (n, k) bool."""
    surety = functional.log_softmax(logits, 1).flatten(2)
    positions = surety.shape[-1]
    shown = surety[:, 1:].exp().topk(max(1, int(look.share * positions)), -1).values.mean(-1)
    of_present = _mean_where(present, -shown.clamp_min(LEAST_SCORE).log())
    of_absent = _mean_where(~present, -(1 - shown).clamp_min(LEAST_SCORE).log())
    background = -surety[:, 0]
    surest = -surety[:, 0].topk(int(look.background * positions), -1).values.mean(-1)
    hardest = background.topk(max(1, int(HARDEST_SHARE * positions)), -1).values.mean(-1)
    empty = background.mean(-1) + hardest
    return torch.where(present.any(1), of_present + of_absent + surest, empty)


def _mean_where(chosen: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return (values * chosen).sum(1) / chosen.sum(1).clamp_min(1)


def choose_looks(
    shown: npt.NDArray[np.float64], kept: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]
) -> tuple[int, ...]:
    """The look of each label.

    Args:
        shown: how much each picture shows each label, (looks, n, k).
        kept: how much of what the compact look shows the dense CRF leaves, (n, k).
        present: (n, k).
    """
    chosen = []
    for label in range(present.shape[1]):
        having = present[:, label]
        if not having.any():
            chosen.append(COARSE)
        elif np.median(kept[having, label]) >= LEAST_KEPT:
            chosen.append(COMPACT)
        else:
            is_small = np.quantile(shown[FILLED, having, label], LARGEST) <= MOST_FILLING
            near, far = (_measure_area(shown[look, :, label], having) for look in (FINE, COARSE))
            chosen.append(FINE if is_small and near >= far - TOLERANCE else COARSE)
    return tuple(chosen)


def _measure_area(shown: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]) -> float:
    """AUROC; 0.5 where all pictures show the label, or none does."""
    count = int(present.sum())
    if count in (0, len(present)):
        return 0.5
    ranks = rankdata(shown)
    return float((ranks[present].sum() - count * (count + 1) / 2) / (count * (len(present) - count)))
