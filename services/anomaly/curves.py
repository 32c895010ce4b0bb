"""How well scores tell good from bad. Nothing here chooses anything: the threshold comes from normals alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.runtime.errors import InvalidArgument


@dataclass(frozen=True)
class Rate:
    """A share with its exact interval (Clopper and Pearson 1934), 95 % unless said otherwise."""

    count: int
    total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RocPoint:
    """What a threshold at `threshold` (a score at or above it is an anomaly) would do."""

    threshold: float
    false_alarm_rate: float
    detection_rate: float


@dataclass(frozen=True)
class LabelFigures:
    """How one label fares."""

    label: str
    count: int
    auroc: float | None  # against all good images; None for labels of good images
    anomalous: Rate | None  # called so at the threshold; None without one


@dataclass(frozen=True)
class Evaluation:
    """Figures over a labelled test set."""

    auroc: float
    average_precision: float
    roc: tuple[RocPoint, ...]
    false_alarms: Rate | None  # at the threshold, None where the detector has none
    misses: Rate | None
    f1: float | None
    labels: tuple[LabelFigures, ...]  # by label


@dataclass(frozen=True)
class _Calls:
    """What the thresholds say."""

    bad: NDArray[np.bool_]  # (n,) whether an image is called so
    known: NDArray[np.bool_]  # (n,) whether it is called anything

    def count(self, chosen: NDArray[np.bool_], *, bad: bool = True) -> "Rate":
        """How many of the chosen images that are called anything are called bad, or good."""
        return count_rate(self.bad[chosen & self.known] == bad)

    def compute_f1(self, is_bad: NDArray[np.bool_]) -> float | None:
        """Of the images that are called anything; None where none of them is bad."""
        return compute_f1(self.bad[self.known], is_bad[self.known]) if (is_bad & self.known).any() else None


def evaluate_scores(
    scores: NDArray[np.float64],
    is_bad: NDArray[np.bool_],
    labels: list[str],
    thresholds: NDArray[np.float64] | None,
) -> Evaluation:
    """Compare scores with the truth.

    Args:
        scores: (n,) the higher, the less normal.
        is_bad: (n,) the truth.
        labels: n names; those of bad images say the kind of defect.
        thresholds: (n,) a score above its own is an anomaly, and NaN means that nobody knows; None without any.

    Raises:
        InvalidArgument: there is no good image, or no bad one.
    """
    _check_both_kinds(is_bad)
    named = np.array(labels, dtype=object)
    calls = None if thresholds is None else _Calls(scores > thresholds, ~np.isnan(thresholds))
    return Evaluation(
        auroc=compute_auroc(scores, is_bad),
        average_precision=compute_average_precision(scores, is_bad),
        roc=trace_roc(scores, is_bad),
        false_alarms=None if calls is None else calls.count(~is_bad),
        misses=None if calls is None else calls.count(is_bad, bad=False),
        f1=None if calls is None else calls.compute_f1(is_bad),
        labels=tuple(_judge_label(label, named == label, scores, is_bad, calls) for label in sorted(set(labels))),
    )


def compute_auroc(scores: NDArray[np.float64], is_bad: NDArray[np.bool_]) -> float:
    """The probability that a bad image scores above a good one, ties counted half (Mann and Whitney 1947), exactly."""
    _check_both_kinds(is_bad)
    bad, good = int(is_bad.sum()), int((~is_bad).sum())
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    # Ties share their mean rank: multiples of one half, exact in double precision.
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[place]
    return float((ranks[is_bad].sum() - bad * (bad + 1) / 2) / (bad * good))


def compute_average_precision(scores: NDArray[np.float64], is_bad: NDArray[np.bool_]) -> float:
    """The mean, over the recall gained at each distinct score, of the precision there; no interpolation."""
    _check_both_kinds(is_bad)
    detected, raised, _ = _count_at_distinct_scores(scores, is_bad)
    gained = np.diff(detected, prepend=0) / is_bad.sum()
    return float((gained * detected / raised).sum())


def compute_f1(is_called_bad: NDArray[np.bool_], is_bad: NDArray[np.bool_]) -> float:
    """The harmonic mean of precision and recall of bad images, 0 to 1."""
    found = int((is_called_bad & is_bad).sum())
    return 2 * found / (int(is_called_bad.sum()) + int(is_bad.sum()))


def trace_roc(scores: NDArray[np.float64], is_bad: NDArray[np.bool_]) -> tuple[RocPoint, ...]:
    """The curve from (0, 0) to (1, 1), a point for each distinct score."""
    _check_both_kinds(is_bad)
    detected, raised, levels = _count_at_distinct_scores(scores, is_bad)
    bad, good = int(is_bad.sum()), int((~is_bad).sum())
    points = zip(levels, (raised - detected) / good, detected / bad, strict=True)
    return (RocPoint(np.inf, 0.0, 0.0), *(RocPoint(float(level), float(x), float(y)) for level, x, y in points))


def count_rate(hits: NDArray[np.bool_], confidence: float = 0.95) -> Rate:
    """How often `hits` (n,) is true, with the exact interval of `confidence`."""
    count, total, tail = int(hits.sum()), len(hits), (1 - confidence) / 2
    low = float(special.betaincinv(count, total - count + 1, tail)) if count > 0 else 0.0
    high = float(special.betaincinv(count + 1, total - count, 1 - tail)) if count < total else 1.0
    return Rate(count, total, count / total if total else 0.0, low, high)


def _count_at_distinct_scores(
    scores: NDArray[np.float64], is_bad: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """For each distinct score, from the highest: bad images at or above it, all images at or above it, the score."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.diff(ordered, append=-np.inf))
    return np.cumsum(is_bad[order], dtype=np.int64)[ends], (ends + 1).astype(np.int64), ordered[ends]


def _judge_label(
    label: str,
    chosen: NDArray[np.bool_],
    scores: NDArray[np.float64],
    is_bad: NDArray[np.bool_],
    calls: _Calls | None,
) -> LabelFigures:
    bad = chosen & is_bad
    compared = bad | ~is_bad
    auroc = compute_auroc(scores[compared], bad[compared]) if bad.any() else None
    return LabelFigures(label, int(chosen.sum()), auroc, None if calls is None else calls.count(chosen))


def _check_both_kinds(is_bad: NDArray[np.bool_]) -> None:
    if is_bad.all() or not is_bad.any():
        raise InvalidArgument("items", f"must hold good and bad images, got {len(is_bad)} of one kind")
