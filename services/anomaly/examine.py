"""Judges the labelled items of a data set as ScoreImage would, and compares with the truth. Nothing is chosen here."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mekiki
from mekiki.types.v1 import types_pb2
from services.anomaly.curves import Evaluation, evaluate_scores
from services.anomaly.entries import About
from services.anomaly.frames import Placement
from services.anomaly.intake import Taken, take_items
from services.anomaly.model import Detector
from services.anomaly.pixels import PixelCurve
from services.anomaly.shortcuts import (
    Shortcut,
    describe_background,
    describe_brightness,
    judge_background,
    judge_brightness,
)

SCORING = "scoring images"
LOOKING = "looking for shortcuts"

Report = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True)
class PixelFigures:
    """How well the heat maps lie on the masks; None without a defective and a good pixel."""

    auroc: float | None
    pro: float | None
    items: int  # normal ones, and those that have a mask


@dataclass(frozen=True)
class Examination:
    """All that was measured; without any mask there are no pixel figures."""

    scores: tuple[mekiki.ItemScore, ...]
    evaluation: Evaluation
    pixels: PixelFigures | None
    label_pixels: dict[str, PixelFigures]  # by label of a defect, against the normal items and its own
    shortcuts: tuple[Shortcut, ...]


class Examiner:
    """Examines one detector on one selection of items.

    Args:
        codec: has the items.
        detector: with the bank and the threshold it is to be judged by.
        about: how it was trained.
        items: labelled ones; their original pixels count.
        normal_labels: an item whose first label is one of these is normal.
    """

    def __init__(
        self,
        codec: mekiki.Client,
        detector: Detector,
        about: About,
        items: types_pb2.ItemFilter,
        normal_labels: AbstractSet[str],
    ) -> None:
        self._codec = codec
        self._detector = detector
        self._about = about
        self._items = items
        self._normal_labels = normal_labels
        self._curves: dict[str, PixelCurve] = {}
        self._measured: dict[str, int] = {}  # items in each of the curves
        self._placements: dict[str, Placement] = {}

    def examine(self, report: Report) -> Examination:
        """Score every item, and look whether the part was needed for it.

        Raises:
            InvalidArgument: the items are all normal, or none is.
            MekikiError: an item cannot be read or prepared.
        """
        described = [read.item for read in self._codec.codec.read_items(self._items, metadata_only=True)]
        has_truth = any(item.has_mask for item in described)
        found: list[mekiki.ItemScore] = []
        for item, taken in take_items(self._codec, self._items, self._about):
            report(SCORING, len(found), len(described))
            category, score = self._score(item, taken, has_truth=has_truth)
            found.append(mekiki.ItemScore(item.item_id, item.label, score, taken.aligned, category))
            self._placements[item.item_id] = taken.placement
        labels = [item.label for item in found]
        is_bad = np.array([label not in self._normal_labels for label in labels], dtype=np.bool_)
        scores = np.array([item.score for item in found])
        evaluation = evaluate_scores(scores, is_bad, labels, self._find_thresholds(found))
        return Examination(
            scores=tuple(found),
            evaluation=evaluation,
            pixels=self._tell_pixels(self._curves.keys()) if has_truth else None,
            label_pixels={label: self._tell_label(label) for label in self._curves.keys() - self._normal_labels},
            shortcuts=self._look_for_shortcuts(is_bad, report),
        )

    def _find_thresholds(self, found: Sequence[mekiki.ItemScore]) -> NDArray[np.float64] | None:
        """(n,) that of each item's category, NaN where that has none; None before the detector is calibrated."""
        standards = [self._detector.find_standard(item.category) for item in found]
        if not any(standards):
            return None
        return np.array([np.nan if standard is None else standard.threshold.value for standard in standards])

    def _score(self, item: mekiki.Item, taken: Taken, *, has_truth: bool) -> tuple[str, float]:
        """Category and score; heat maps take a while, so only those are laid out that there is a truth for."""
        if not has_truth or not (item.has_mask or item.label in self._normal_labels):
            return self._detector.assign(taken.pixels)
        shape = taken.placement.shape
        verdict = self._detector.score_image(taken.pixels, taken.placement, max(shape))
        if verdict.heatmap is not None:
            truth = self._read_mask(item.item_id) if item.has_mask else np.zeros(shape, dtype=np.bool_)
            self._curves.setdefault(item.label, PixelCurve()).add(verdict.heatmap, truth)
            self._measured[item.label] = self._measured.get(item.label, 0) + 1
        return verdict.category, verdict.score

    def _read_mask(self, item_id: str) -> NDArray[np.bool_]:
        one = mekiki.ItemFilter(self._items.dataset, item_ids=[item_id])
        (read,) = self._codec.codec.read_items(one, metadata_only=True, with_masks=True)
        if read.error is not None:
            raise read.error
        return read.mask if read.mask is not None else np.zeros((read.item.height, read.item.width), dtype=np.bool_)

    def _tell_label(self, label: str) -> PixelFigures:
        return self._tell_pixels({label} | (self._curves.keys() & self._normal_labels))

    def _tell_pixels(self, labels: AbstractSet[str]) -> PixelFigures:
        curve = PixelCurve.join(self._curves[label] for label in sorted(labels))
        return PixelFigures(curve.compute_auroc(), curve.compute_pro(), sum(self._measured[label] for label in labels))

    def _look_for_shortcuts(self, is_bad: NDArray[np.bool_], report: Report) -> tuple[Shortcut, ...]:
        # The very items that were scored, by identifier as they were, whatever has been appended since.
        wanted = mekiki.ItemFilter(self._items.dataset, item_ids=list(self._placements))
        brightness, backgrounds = [], []
        framing = self._detector.model.framing
        for number, read in enumerate(self._codec.codec.read_items(wanted)):
            report(LOOKING, number, len(is_bad))
            brightness.append(describe_brightness(read.pixels))
            backgrounds.append(describe_background(read.pixels, framing.find_part(self._placements[read.item.item_id])))
        return judge_brightness(np.array(brightness), is_bad), judge_background(np.stack(backgrounds), is_bad)
