"""Which rate factor costs no more than is allowed, from scores of the same images at one after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from services.anomaly.curves import compute_auroc

_GRID = 6
_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Trial:
    """Scores of what one seed held out: the n-th defect was made on the n-th normal, or they have nothing in common."""

    normals: NDArray[np.float64]
    defects: NDArray[np.float64]

    @property
    def auroc(self) -> float:
        """How well they are told apart."""
        return _compare(self.normals, self.defects)


@dataclass(frozen=True)
class Loss:
    """By how much an AUROC is lower than another, mean over the seeds, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """What came of a rate factor."""

    crf: int
    frame_bytes: float
    auroc: float
    loss: Loss


@dataclass(frozen=True)
class Tuned:
    """What was found: the rate factor, if there is one, what was tried, and the scores without compression."""

    crf: int | None
    points: tuple[Point, ...]
    raw: tuple[Trial, ...]
    prepared: tuple[Trial, ...]
    strength: int  # of the defects that were made up; 0: they were given


def mean_auroc(trials: Sequence[Trial]) -> float:
    """Over the seeds."""
    return float(np.mean([trial.auroc for trial in trials]))


def measure_loss(before: Sequence[Trial], after: Sequence[Trial], seed: int) -> Loss:
    """Compares the scores of the same images, seed by seed.

    The interval is that of a paired bootstrap: images are drawn with replacement, a normal together with the defect
    made on it, and both AUROCs are computed of the same draw.
    """
    random = np.random.default_rng(seed)
    losses = np.array([[_draw_loss(*pair, random) for pair in zip(before, after, strict=True)] for _ in range(_DRAWS)])
    low, high = np.quantile(losses.mean(axis=1), [0.025, 0.975])
    return Loss(mean_auroc(before) - mean_auroc(after), float(low), float(high))


def even_out(points: Sequence[Point]) -> list[float]:
    """The losses as a curve that never falls, nearest to them by squares; points by rate factor."""
    return [float(value) for value in isotonic_regression([point.loss.value for point in points]).x]


def search(
    least: int, most: int, max_loss: float, measure: Callable[[int], Point]
) -> tuple[int | None, tuple[Point, ...]]:
    """Measures rate factors over the whole range, then ever closer to the largest whose evened loss is allowed.

    Returns:
        That rate factor, None where even the smallest one costs more; and what was measured, by rate factor.
    """
    found = {crf: measure(crf) for crf in _spread(least, most)}
    while True:
        points = [found[crf] for crf in sorted(found)]
        allowed = [point.crf for point, loss in zip(points, even_out(points), strict=True) if loss <= max_loss]
        best = max(allowed, default=None)
        following = min((crf for crf in found if best is not None and crf > best), default=None)
        if best is None or following is None or following == best + 1:
            return best, tuple(points)
        middle = (best + following) // 2
        found[middle] = measure(middle)


def _spread(least: int, most: int) -> list[int]:
    return sorted({round(crf) for crf in np.linspace(least, most, min(_GRID, most - least + 1)).tolist()})


def _draw_loss(before: Trial, after: Trial, random: np.random.Generator) -> float:
    normals = random.integers(len(before.normals), size=len(before.normals))
    paired = len(before.defects) == len(before.normals)
    defects = normals if paired else random.integers(len(before.defects), size=len(before.defects))
    return _compare(before.normals[normals], before.defects[defects]) - _compare(
        after.normals[normals], after.defects[defects]
    )


def _compare(normals: NDArray[np.float64], defects: NDArray[np.float64]) -> float:
    is_bad = np.repeat([False, True], [len(normals), len(defects)])
    return compute_auroc(np.concatenate([normals, defects]), is_bad)
