"""How well scores tell bad from good: ROC curve, its area, and intervals for shares."""

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[float]


def measure_auroc(good: Scores, bad: Scores) -> float:
    """Return the chance that a bad part scores above a good one (ties count half); NaN when either is missing."""
    if not good or not bad:
        return float("nan")
    above = np.asarray(bad)[:, None] - np.asarray(good)[None, :]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def trace_roc(good: Scores, bad: Scores) -> NDArray[np.float64]:
    """Return the ROC curve as points (false alarm rate, detection rate), (n, 2), from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([np.asarray(good), np.asarray(bad)]))[::-1]
    false_alarms = [(np.asarray(good) >= threshold).mean() for threshold in thresholds]
    detections = [(np.asarray(bad) >= threshold).mean() for threshold in thresholds]
    return np.column_stack([[0.0, *false_alarms], [0.0, *detections]])


def bound_share(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share of `count` in `total` cases (Clopper and Pearson, Biometrika 1934)."""
    tail = (1 - confidence) / 2
    lower = 0.0 if count == 0 else _solve(lambda share: _at_least(count, total, share) - tail)
    upper = 1.0 if count == total else _solve(lambda share: tail - _at_most(count, total, share))
    return lower, upper


def smallest_rate(normals: int, confidence: float) -> float:
    """Return the smallest false-alarm rate that so many normals can promise, rounded up to a tenth of a percent.

    The largest of n scores exceeds the (1 - r) quantile with probability 1 - (1 - r)^n (Wilks, Annals of Mathematical
    Statistics 1941), so n normals support no rate r with (1 - r)^n > 1 - confidence.
    """
    exact = 1 - (1 - confidence) ** (1 / normals)
    return min(float(np.ceil(exact * 1000 + 1e-9) / 1000), 0.999)


def _at_least(count: int, total: int, share: float) -> float:
    return 1 - _at_most(count - 1, total, share)


def _at_most(count: int, total: int, share: float) -> float:
    return sum(comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count + 1))


def _solve(rises: Callable[[float], float]) -> float:
    """Return where a function that grows from below zero to above it crosses zero between 0 and 1."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)
    return (low + high) / 2
