"""Threshold and growth of a label's boxes, learned from a handful of people's.

Tried are the ways of `WAYS`: all thresholds, with the foreground where the ground is plain and without it, and the
foreground always; each as it is, grown alike on all sides, and grown by each side's own measure. Each way is judged by
boxes that its growth was not measured on, and taken only where it is better than the baseline beyond doubt: by the
lower bound of its mean gain in IoU, at 99 % since so many ways are tried (Student, 1908). So five boxes change little
unless they agree, and with more boxes smaller gains count. The baseline of a label is what all labels' boxes together
taught, theirs is a threshold of 0.3, the foreground where the ground is plain, and no growth (the curve over thresholds
is that of MaxBoxAccV2: Choe et al., CVPR 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from services.boxfit.fit import Box
from services.boxfit.foreground import ForegroundUse
from services.boxfit.growth import LEAST, MOST, NO_GROWTH, Growth
from services.boxfit.model import DEFAULT_THRESHOLD

Boxes = NDArray[np.float64]  # (..., 4): x_min, y_min, x_max, y_max

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, DEFAULT_THRESHOLD, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8)
WAYS = (  # threshold, and what is made of the foreground
    *((threshold, ForegroundUse.PLAIN_GROUND) for threshold in THRESHOLDS),
    *((threshold, ForegroundUse.NEVER) for threshold in THRESHOLDS),
    (DEFAULT_THRESHOLD, ForegroundUse.ALWAYS),
)
OVERLAPS = (0.3, 0.5, 0.7)  # of MaxBoxAccV2
_DEFAULT = WAYS.index((DEFAULT_THRESHOLD, ForegroundUse.PLAIN_GROUND))
_MOST_FOLDS = 20
_CONFIDENCE = 0.99
_SHRINKAGE = 3.0  # boxes' worth of belief that nothing grows
_SIDES = np.array([1.0, 1.0, -1.0, -1.0])  # outwards is towards lower coordinates on the left and at the top


@dataclass(frozen=True)
class Sample:
    """A person's box, and the boxes found for it in each of `WAYS`; `size` (w, h)."""

    label: str
    wanted: Box
    found: tuple[Box, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Lesson:
    """What boxes taught."""

    label: str
    threshold: float = DEFAULT_THRESHOLD
    growth: Growth = NO_GROWTH
    foreground: ForegroundUse = ForegroundUse.PLAIN_GROUND
    box_count: int = 0
    mean_iou: float = 0.0
    default_mean_iou: float = 0.0


@dataclass(frozen=True)
class _Trial:
    """A way and a growth's kind, with the IoU of each box under what the others taught, (n,)."""

    way: int
    kind: int
    ious: NDArray[np.float64]


def learn_lessons(samples: Sequence[Sample]) -> tuple[Lesson, ...]:
    """Learn from all labels together, under "", and from each by itself; nothing from nothing."""
    if not samples:
        return ()
    common, _ = _learn("", samples, None)
    labels = sorted({sample.label for sample in samples})
    own = [_learn(label, [sample for sample in samples if sample.label == label], common)[0] for label in labels]
    return (common, *own)


def measure_accuracy(ious: NDArray[np.float64]) -> float:
    """MaxBoxAccV2 of one threshold: the mean share of boxes over IoU .3, .5 and .7."""
    return float(np.mean([(ious >= overlap).mean() for overlap in OVERLAPS]))


def _learn(label: str, samples: Sequence[Sample], common: Lesson | None) -> tuple[Lesson, NDArray[np.float64]]:
    found = _stack([sample.found for sample in samples]).transpose(1, 0, 2)  # (ways, n, 4)
    wanted = _stack([sample.wanted for sample in samples])  # (n, 4)
    size = np.array([sample.size for sample in samples], dtype=np.float64)
    plain = _measure_ious(found[_DEFAULT], wanted)
    given = np.zeros(4) if common is None else np.array(_sides_of(common.growth))
    way = _DEFAULT if common is None else _way_of(common)
    base = _measure_ious(_grow(found[way], given, size), wanted)
    trials = [
        _Trial(way, kind, _judge(found[way], wanted, size, kind))
        for way in range(len(WAYS))
        for kind in range(len(_KINDS))
    ]
    best = max(trials, key=lambda trial: _bound_gain(trial.ious - base))
    if _bound_gain(best.ious - base) <= 0:
        best, growth = _Trial(way, 0, base), given
    else:
        growth = _KINDS[best.kind](found[best.way], wanted)
    lesson = Lesson(
        label=label,
        threshold=WAYS[best.way][0],
        growth=Growth(*growth.tolist()),
        foreground=WAYS[best.way][1],
        box_count=len(samples),
        mean_iou=float(best.ious.mean()),
        default_mean_iou=float(plain.mean()),
    )
    return lesson, best.ious


def _way_of(lesson: Lesson) -> int:
    return WAYS.index((lesson.threshold, lesson.foreground))


def _bound_gain(gains: NDArray[np.float64]) -> float:
    """What the mean gain is at least, but for 1 chance in 100; one box alone proves nothing."""
    count = len(gains)
    if count < 2:
        return 0.0
    return float(gains.mean() - stdtrit(count - 1, _CONFIDENCE) * gains.std(ddof=1) / count**0.5)


def _judge(found: Boxes, wanted: Boxes, size: NDArray[np.float64], kind: int) -> NDArray[np.float64]:
    """IoU of each box, grown by what the boxes of the other folds taught."""
    count = len(found)
    fold = np.arange(count) % min(count, _MOST_FOLDS)
    ious = np.zeros(count)
    for number in range(fold.max() + 1):
        held_out, others = fold == number, fold != number
        growth = _KINDS[kind](found[others], wanted[others])
        ious[held_out] = _measure_ious(_grow(found[held_out], growth, size[held_out]), wanted[held_out])
    return ious


def _grow_not(found: Boxes, wanted: Boxes) -> NDArray[np.float64]:  # noqa: ARG001 - the others look at both
    return np.zeros(4)


def _grow_evenly(found: Boxes, wanted: Boxes) -> NDArray[np.float64]:
    moves = _measure_moves(found, wanted)
    return np.full(4, _shrink(float(np.median(moves.mean(axis=1))) if len(moves) else 0.0, len(moves)))


def _grow_by_side(found: Boxes, wanted: Boxes) -> NDArray[np.float64]:
    moves = _measure_moves(found, wanted)
    return (
        np.array([_shrink(float(move), len(moves)) for move in np.median(moves, axis=0)]) if len(moves) else np.zeros(4)
    )


_KINDS = (_grow_not, _grow_evenly, _grow_by_side)


def _shrink(move: float, count: int) -> float:
    return float(np.clip(move * count / (count + _SHRINKAGE), LEAST, MOST))


def _measure_moves(found: Boxes, wanted: Boxes) -> NDArray[np.float64]:
    """What each side of each box should move outwards by, (n, 4), of the box's own side."""
    moves: NDArray[np.float64] = (found - wanted) * _SIDES / _spans(found)
    return moves


def _grow(boxes: Boxes, growth: NDArray[np.float64], size: NDArray[np.float64]) -> Boxes:
    moved = boxes - growth * _SIDES * _spans(boxes)
    inside: Boxes = np.clip(moved, 0, np.tile(size, 2))
    return inside


def _spans(boxes: Boxes) -> Boxes:
    return np.tile(np.maximum(boxes[:, 2:] - boxes[:, :2], 1), 2)


def _measure_ious(one: Boxes, two: Boxes) -> NDArray[np.float64]:
    shared = np.prod(np.clip(np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2]), 0, None), axis=1)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (one, two)]
    ious: NDArray[np.float64] = shared / np.maximum(areas[0] + areas[1] - shared, 1)
    return ious


def _sides_of(growth: Growth) -> tuple[float, float, float, float]:
    return growth.left, growth.top, growth.right, growth.bottom


def _stack(boxes: object) -> Boxes:
    """Boxes, or rows of them, as (..., 4)."""
    if isinstance(boxes, Box):
        return np.array([boxes.x_min, boxes.y_min, boxes.x_max, boxes.y_max], dtype=np.float64)
    return np.stack([_stack(each) for each in boxes])  # type: ignore[attr-defined]
