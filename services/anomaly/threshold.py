"""A threshold from normal scores alone, with a stated false-alarm rate and the confidence that it is kept.

Let F be the distribution of the scores of normal images and s_(k) the k-th smallest of n independent ones. The share of
future normals above s_(k) is 1 - F(s_(k)), whose law does not depend on F: F(s_(k)) is Beta(k, n + 1 - k), or larger in
the stochastic order when F has steps. So P(false-alarm rate of s_(k) <= a) >= P(Binomial(n, 1 - a) <= k - 1).
(Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical Statistics 12, 1941.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.runtime.errors import FailedPrecondition, InvalidArgument

T = TypeVar("T")


@dataclass(frozen=True)
class Threshold:
    """A score above `value` is an anomaly."""

    value: float
    false_alarm_rate: float  # at most this share of normal images is above `value` ...
    confidence: float  # ... with this probability, over the draw of the normals
    rank: int  # `value` is the rank-th smallest of `normals` scores
    normals: int


@dataclass(frozen=True)
class Standard:
    """What the images of one category are held against."""

    threshold: Threshold
    normal_scores: NDArray[np.float64]
    """Those that it was set from, ascending; none where they were lost, which p-values and drift alone need."""


def count_needed_normals(false_alarm_rate: float, confidence: float) -> int:
    """The fewest normals for which the largest score is a threshold that keeps the promise; 299 for 1 % with 95 %.

    Raises:
        InvalidArgument: a rate or a confidence that is not between 0 and 1.
    """
    _check_share("false_alarm_rate", false_alarm_rate)
    _check_share("confidence", confidence)
    return math.ceil(math.log1p(-confidence) / math.log1p(-false_alarm_rate) - 1e-9)


def check_enough(normals: int, false_alarm_rate: float, confidence: float, category: str = "") -> None:
    """Refuse a promise that so many normals cannot keep.

    Raises:
        FailedPrecondition: TOO_FEW_NORMALS, naming how many are needed, and the category where it has a name.
    """
    needed = count_needed_normals(false_alarm_rate, confidence)
    if normals < needed:
        which = f" of category {category!r}" if category else ""
        raise FailedPrecondition(
            "TOO_FEW_NORMALS",
            f"at most {false_alarm_rate:g} false alarms with confidence {confidence:g} needs {needed} normal images"
            f"{which}, got {normals}",
        )


def choose_rank(normals: int, false_alarm_rate: float, confidence: float) -> int:
    """The smallest k such that the k-th smallest of `normals` scores keeps the promise.

    Raises:
        FailedPrecondition: TOO_FEW_NORMALS, naming how many are needed.
    """
    check_enough(normals, false_alarm_rate, confidence)
    # special.bdtr(x, n, p) is P(Binomial(n, p) <= x), which grows with x = k - 1.
    keeps = special.bdtr(np.arange(normals), normals, 1 - false_alarm_rate) >= confidence
    return int(keeps.argmax()) + 1


def choose_threshold(scores: NDArray[np.float64], false_alarm_rate: float, confidence: float) -> Threshold:
    """The lowest threshold that keeps the promise.

    Args:
        scores: (n,) of normal images, none of which was in the bank that it was compared with.
        false_alarm_rate: between 0 and 1, such as 0.01.
        confidence: between 0 and 1, such as 0.95.

    Raises:
        FailedPrecondition: TOO_FEW_NORMALS.
        InvalidArgument: a rate, a confidence or a score that cannot be.
    """
    if not np.isfinite(scores).all():
        raise InvalidArgument("scores", "must be finite")
    rank = choose_rank(len(scores), false_alarm_rate, confidence)
    value = float(np.sort(scores)[rank - 1])
    return Threshold(value, false_alarm_rate, confidence, rank, len(scores))


def compute_p_value(score: float, normal_scores: NDArray[np.float64]) -> float | None:
    """The share of normal images that score at least as high, estimated so that it is never too small.

    (1 + those of the n calibrated ones that do) / (n + 1): of a normal image that was not among them it is at most p
    with a probability of at most p, for every p (Vovk et al. 2005, see `drift.py`). None before the calibration.
    `normal_scores` are ascending.
    """
    count = len(normal_scores)
    if count == 0:
        return None
    return (1 + count - int(np.searchsorted(normal_scores, score, side="left"))) / (count + 1)


def split_folds(items: Sequence[T], folds: int, seed: int = 0) -> list[list[T]]:
    """`items` in `folds` random parts whose sizes differ by one at most; each is scored while it is not in the bank."""
    if not 2 <= folds <= len(items):
        raise InvalidArgument("folds", f"must be from 2 to the number of items ({len(items)}), got {folds}")
    order = np.random.default_rng(seed).permutation(len(items))
    return [[items[index] for index in order[fold::folds]] for fold in range(folds)]


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InvalidArgument(name, f"must lie between 0 and 1, got {value:g}")
