"""Average precision of detections, as COCO counts it (Lin et al., "Microsoft COCO", ECCV 2014, and its web page).

Detections of a label are taken by falling score, over all images; each takes the free true box of its label and image
with the highest IoU, if that reaches the threshold. Precision is made monotone and averaged at 101 recalls. Labels
without a true box do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.saliency.detection.letterbox import Boxes

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100  # of an image and label: the surest


@dataclass(frozen=True, eq=False)
class Truth:
    """The true boxes of an image: boxes (n, 4), classes (n,)."""

    boxes: Boxes
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Found:
    """The detections in an image: boxes (m, 4), classes (m,), scores (m,)."""

    boxes: Boxes
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Precision:
    """Mean average precision, 0 to 1; `by_class` is that at IoU .5 of every class that has true boxes."""

    mean: float
    """Over classes and IoU .5, .55 ... .95."""
    mean_50: float
    """Over classes at IoU .5."""
    by_class: dict[int, float]


def measure_precision(truths: Sequence[Truth], found: Sequence[Found]) -> Precision:
    """Measure detections against the truth, image by image; all zero where there are no true boxes."""
    classes = sorted({int(one) for truth in truths for one in truth.classes})
    table = np.zeros((len(classes), len(IOU_THRESHOLDS)))
    for row, number in enumerate(classes):
        table[row] = _measure_class(truths, found, number)
    if not classes:
        return Precision(0.0, 0.0, {})
    by_class = {number: float(value) for number, value in zip(classes, table[:, 0], strict=True)}
    return Precision(float(table.mean()), float(table[:, 0].mean()), by_class)


def compute_ious(first: Boxes, second: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of every pair, (n, 4) and (m, 4) → (n, m)."""
    one, two = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    shared: npt.NDArray[np.float64] = np.prod(np.maximum(sides, 0), axis=2)
    areas = [np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=2) for boxes in (one, two)]
    union = areas[0] + areas[1] - shared
    ious: npt.NDArray[np.float64] = shared / np.maximum(union, 1e-12)
    return ious


def _measure_class(truths: Sequence[Truth], found: Sequence[Found], number: int) -> list[float]:
    """Average precision of one class at each of IOU_THRESHOLDS."""
    scores, hits, count = [], [], 0
    for truth, here in zip(truths, found, strict=True):
        wanted = truth.boxes[truth.classes == number]
        mine = np.flatnonzero(here.classes == number)
        order = mine[np.argsort(-here.scores[mine], kind="stable")][:MAX_DETECTIONS]
        ious = compute_ious(here.boxes[order], wanted)
        hits.append(np.array([_match(ious, least) for least in IOU_THRESHOLDS]).reshape(len(IOU_THRESHOLDS), -1))
        scores.append(here.scores[order])
        count += len(wanted)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    ranked = np.concatenate(hits, axis=1)[:, order]
    return [_average(row, count) for row in ranked]


def _match(ious: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.bool_]:
    """Which detections, surest first, take a true box that no surer one took; `ious` is (detections, truths)."""
    free = np.ones(ious.shape[1], np.bool_)
    hits = np.zeros(ious.shape[0], np.bool_)
    for index, row in enumerate(ious):
        candidates = np.where(free, row, -1.0)
        best = int(candidates.argmax()) if free.any() else -1
        if best >= 0 and candidates[best] >= least - 1e-9:
            hits[index], free[best] = True, False
    return hits


def _average(hits: npt.NDArray[np.bool_], count: int) -> float:
    """Precision averaged at RECALLS, 0 at those never reached; `hits` by falling score, `count` true boxes."""
    found = np.cumsum(hits)
    recall = found / count
    precision = found / np.arange(1, len(hits) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    reached = places < len(recall)
    return float(np.where(reached, monotone[np.minimum(places, len(recall) - 1)], 0.0).mean()) if len(recall) else 0.0
