"""What people's boxes taught, as annotating applies it, and how sure a proposal is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from services.boxfit.growth import LEAST, MOST
from services.boxfit.learn import Lesson
from services.runtime.errors import InvalidArgument

MAX_LABELS = 1000
_OFFSETS, _SLOPES = (-10.0, 10.0), (0.0, 10.0)
_LEAST_CHANCE = 1e-3  # a raw score of 0 or 1 has no logit
_BELIEF = 0.25  # precision of the belief that offset and slope are 0 and 1


@dataclass(frozen=True)
class Confidence:
    """The chance that a person accepts a box: a logistic curve over the logit of its raw score.

    Without anything learned it is the raw score itself.
    """

    offset: float = 0.0
    slope: float = 1.0
    judged_count: int = 0

    def __post_init__(self) -> None:
        for name, value, (low, high) in (("offset", self.offset, _OFFSETS), ("slope", self.slope, _SLOPES)):
            if not low <= value <= high:
                raise InvalidArgument(f"calibration.confidence_{name}", f"must be {low:g} to {high:g}, is {value:g}")

    def rate(self, raw: float) -> float:
        """Turn a raw score, 0 to 1, into the chance."""
        if self.offset == 0 and self.slope == 1:
            return raw
        return 1 / (1 + math.exp(-(self.offset + self.slope * _logit(raw))))


PLAIN_CONFIDENCE = Confidence()


@dataclass(frozen=True)
class Calibration:
    """Lessons by label, "" being for all that have none of their own."""

    lessons: tuple[Lesson, ...] = ()
    confidence: Confidence = PLAIN_CONFIDENCE

    def __post_init__(self) -> None:
        if len(self.lessons) > MAX_LABELS:
            raise InvalidArgument("calibration.labels", f"must be at most {MAX_LABELS}, are {len(self.lessons)}")
        if len({lesson.label for lesson in self.lessons}) < len(self.lessons):
            raise InvalidArgument("calibration.labels", "must name each label once")
        for lesson in self.lessons:
            _check_lesson(lesson)

    def find(self, label: str) -> Lesson | None:
        """Give what holds for a label; None where nothing does."""
        by_label = {lesson.label: lesson for lesson in self.lessons}
        return by_label.get(label) or by_label.get("")


NOTHING_LEARNED = Calibration()


def _check_lesson(lesson: Lesson) -> None:
    if not 0 < lesson.threshold < 1:
        raise InvalidArgument("calibration.labels.threshold", f"must be between 0 and 1, is {lesson.threshold:g}")
    growth = lesson.growth
    for name, value in (
        ("left", growth.left),
        ("top", growth.top),
        ("right", growth.right),
        ("bottom", growth.bottom),
    ):
        if not LEAST <= value <= MOST:
            raise InvalidArgument(f"calibration.labels.grow_{name}", f"must be {LEAST:g} to {MOST:g}, is {value:g}")


def learn_confidence(judged: Sequence[tuple[float, bool]]) -> Confidence:
    """Learn offset and slope from raw scores and whether a person accepted the box (Platt, 1999).

    A weak belief that they are 0 and 1 keeps a handful of boxes, or boxes of one kind only, from running away with
    them. The loss is convex.
    """
    if not judged:
        return PLAIN_CONFIDENCE
    logits = np.array([_logit(raw) for raw, _ in judged])
    accepted = np.array([float(is_accepted) for _, is_accepted in judged])

    def compute_loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss, and what it rises by with offset and slope."""
        told = at[0] + at[1] * logits
        from_belief = at - (0.0, 1.0)
        wrong = expit(told) - accepted
        loss = float((np.logaddexp(0, told) - accepted * told).sum() + _BELIEF / 2 * (from_belief**2).sum())
        return loss, np.array([wrong.sum(), (wrong * logits).sum()]) + _BELIEF * from_belief

    found = minimize(compute_loss, [0.0, 1.0], jac=True, method="L-BFGS-B", bounds=[_OFFSETS, _SLOPES])
    offset, slope = map(float, found.x)
    return Confidence(offset, slope, len(judged))


def _logit(raw: float) -> float:
    chance = min(max(raw, _LEAST_CHANCE), 1 - _LEAST_CHANCE)
    return math.log(chance / (1 - chance))
