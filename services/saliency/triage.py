"""Wanted or not, such that few wanted images are missed: thresholds from held-out items alone, with a stated recall.

Cut off the i held-out wanted items that are farthest from all training, and of the rest the k least probable ones: of
future wanted images, the share beyond either cut is Beta(i + k, n + 1 - i - k), whatever their distribution, since
blocks that are cut off one after another are statistically equivalent. So it is at most a with probability
P(Binomial(n, a) >= i + k). (Wilks, Annals of Mathematical Statistics 12, 1941; Tukey, "Non-parametric estimation II",
18, 1947.) That holds for images that come about as the held-out ones did, each for itself.

With too few held-out items for the recall asked for, two are cut off all the same, one by either measure, and what that
is good for is said. Since missing wanted images is what hurts, both limits then go beyond those items, to where the
recall would be if their tails went on as exponential ones (peaks over a threshold; Pickands, Annals of Statistics 3,
1975).
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.saliency.calibration import HeldOut
from services.saliency.rates import Rate, make_rate

LEAST_BLOCKS = 2  # one by probability, one by distance
FAR_SHARE = 0.25  # of what is cut off, by distance
UNLIKE_RATE = 0.01  # of held-out items, whatever their label
_BISECTIONS = 50
_LEAST_ODDS = 1e-6

Floats = npt.NDArray[np.float32]


class Verdict(StrEnum):
    """What an image is to somebody who wants some labels."""

    WANTED = "wanted"
    UNWANTED = "unwanted"
    UNLIKE = "unlike"


@dataclass(frozen=True)
class Wish:
    """Labels that are wanted, and which share of their images is to be found with which probability."""

    labels: tuple[str, ...]
    recall: float = 0.98
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for field in ("recall", "confidence"):
            if not 0.5 <= getattr(self, field) <= 0.999:
                raise InvalidArgument(field, f"must be 0.5 to 0.999, is {getattr(self, field):g}")

    def find_wanted(self, known: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of a classifier's labels are wanted, (k,).

        Raises InvalidArgument for none, all, or one that the classifier does not know.
        """
        unknown = [label for label in self.labels if label not in known]
        if unknown:
            told = ", ".join(known[:20])
            raise InvalidArgument("wanted_labels", f"{unknown[0]!r} is none of this classifier's labels: {told}")
        wanted = np.isin(known, self.labels)
        if not wanted.any() or wanted.all():
            many = "all of them are" if wanted.all() else "none is"
            raise InvalidArgument("wanted_labels", f"must name one to {len(known) - 1} labels, {many} named")
        return wanted


@dataclass(frozen=True)
class Sighting:
    """What is known of an image: probabilities (k,) of all labels, and the distance to what was trained on."""

    probabilities: Floats
    distance: float


@dataclass(frozen=True)
class Filter:
    """How wanted images are told from others; fields as the contract's `Filter` says."""

    threshold: float
    wanted_distance: float
    unlike_distance: float
    promised_recall: float
    recall: Rate
    precision: Rate
    needed_count: int
    held_out_unit_count: int

    def judge(self, probability: float, distance: float) -> Verdict:
        """Tell a verdict from the wanted labels' probability and the distance."""
        if probability >= self.threshold and distance <= self.wanted_distance:
            return Verdict.WANTED
        return Verdict.UNLIKE if distance > self.unlike_distance else Verdict.UNWANTED


def sum_wanted(probabilities: Floats, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The probability of the wanted labels together, (n,), of (n, k); never more than 1."""
    return np.minimum(probabilities.astype(np.float64) @ wanted, 1.0)


def choose_filter(held_out: HeldOut | None, wanted: npt.NDArray[np.bool_], recall: float, confidence: float) -> Filter:
    """Choose the strictest filter that keeps the recall; with too few items one that keeps all of them, and more.

    Raises FailedPrecondition NO_HELD_OUT_ITEMS where fewer than two wanted items were held out.
    """
    own = np.zeros(0, np.bool_) if held_out is None else wanted[held_out.classes]
    if held_out is None or own.sum() < LEAST_BLOCKS:
        raise FailedPrecondition(
            "NO_HELD_OUT_ITEMS",
            f"{int(own.sum())} items with a wanted label were held out; train again, with more of their groups",
        )
    scores, n = sum_wanted(held_out.probabilities, wanted), int(own.sum())
    affordable = count_blocks(n, recall, confidence)
    blocks = max(LEAST_BLOCKS, affordable)
    threshold, limit = _cut_off(scores[own], held_out.distances[own], blocks)
    if affordable < blocks:
        threshold, limit = _reach_beyond(scores[own], held_out.distances[own], threshold, limit, (recall, confidence))
    unlike = _find_unlike(held_out.distances)
    limit = max(unlike, limit)
    called = (scores >= threshold) & (held_out.distances <= limit)
    found = int((called & own).sum())
    return Filter(
        threshold=threshold,
        wanted_distance=limit,
        unlike_distance=unlike,
        promised_recall=find_promise(n, blocks, confidence),
        recall=make_rate(found, n),
        precision=make_rate(found, int(called.sum())),
        needed_count=count_needed(recall, confidence),
        held_out_unit_count=len(np.unique(held_out.units[own])),
    )


def _cut_off(scores: npt.NDArray[np.float64], distances: Floats, blocks: int) -> tuple[float, float]:
    """The least probability and the greatest distance of wanted items (n,), such that `blocks` of them are cut off."""
    far = max(1, round(FAR_SHARE * blocks))
    limit = float(np.sort(distances)[-far])
    near = np.argsort(distances, kind="stable")[: len(distances) - far]
    return float(np.sort(scores[near])[blocks - far - 1]), limit


def _reach_beyond(
    scores: npt.NDArray[np.float64], distances: Floats, threshold: float, limit: float, promise: tuple[float, float]
) -> tuple[float, float]:
    """Lower the threshold and raise the limit to where few items do not tell any more."""
    recall, confidence = promise
    odds = np.clip(scores, _LEAST_ODDS, 1 - _LEAST_ODDS)
    odds = np.log(odds / (1 - odds))
    # The tail's scale is taken at its upper bound for what must not be missed, and as it is for what nobody foresaw.
    lowest = -extrapolate(-odds, (1 - FAR_SHARE) * (1 - recall), confidence)
    farthest = extrapolate(distances.astype(np.float64), FAR_SHARE * (1 - recall), 0.5)
    return min(threshold, 1 / (1 + math.exp(-lowest))), max(limit, farthest)


def _find_unlike(distances: Floats) -> float:
    """The distance beyond which about 1 of 100 held-out items lie."""
    rank = min(len(distances), math.ceil((1 - UNLIKE_RATE) * (len(distances) + 1)))
    return float(np.sort(distances)[rank - 1])


def extrapolate(values: npt.NDArray[np.float64], share: float, confidence: float) -> float:
    """The value that a share of such values (n,) lies above, if their upper tail is exponential.

    The tail's scale is the mean by which the upper half exceeds the median, at that mean's upper bound.
    """
    middle = float(np.median(values))
    above = values[values > middle] - middle
    if len(above) == 0:
        return middle
    scale = float(above.mean()) * (1 + max(0.0, NormalDist().inv_cdf(confidence)) / math.sqrt(len(above)))
    return middle + scale * max(0.0, math.log(len(above) / len(values) / share))


def count_needed(recall: float, confidence: float) -> int:
    """The fewest items of which two may be cut off, such that the recall is kept with the confidence."""
    low, high = LEAST_BLOCKS, LEAST_BLOCKS
    while count_blocks(high, recall, confidence) < LEAST_BLOCKS:
        low, high = high, 2 * high
    return low + bisect.bisect_left(range(low, high), LEAST_BLOCKS, key=lambda n: count_blocks(n, recall, confidence))


def count_blocks(n: int, recall: float, confidence: float) -> int:
    """The most of n items that may be cut off, such that the recall is kept with the confidence; 0 with too few."""
    return int((np.cumsum(_list_binomial(n, n, 1 - recall)) <= 1 - confidence).sum())


def find_promise(n: int, blocks: int, confidence: float) -> float:
    """The recall that is kept with the confidence when so many of n items are cut off, 1 or more."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _list_binomial(n, blocks, 1 - middle).sum() <= 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def _list_binomial(n: int, count: int, share: float) -> npt.NDArray[np.float64]:
    """P(Binomial(n, share) = k) for k below `count`; share in (0, 1)."""
    k = np.arange(count)
    chosen = np.cumsum(np.log((n - k[1:] + 1) / k[1:]))
    return np.asarray(np.exp(np.append(0.0, chosen) + k * np.log(share) + (n - k) * np.log1p(-share)))
