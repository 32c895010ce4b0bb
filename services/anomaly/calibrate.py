"""Scores normal items as a line's images would be: each as one category, and none against itself."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mekiki
from mekiki.types.v1 import types_pb2
from services.anomaly.entries import About
from services.anomaly.examine import SCORING, Report
from services.anomaly.intake import take_items
from services.anomaly.model import Detector
from services.anomaly.threshold import check_enough, split_folds
from services.runtime.errors import FailedPrecondition


@dataclass(frozen=True)
class Comparison:
    """What an item is compared with."""

    category: str | None  # None: that in which it scores lowest
    exclude: frozenset[str]  # enrolled items of that category


STRANGER = Comparison(None, frozenset())
"""Of an item that is not enrolled."""


class Calibrator:
    """Scores one selection of normal items by one detector.

    Args:
        codec: has the items.
        detector: with the bank that is to be calibrated.
        about: how it was trained.
        items: normal ones; those that are enrolled count for their category, others for the nearest one.
        folds: parts that the enrolled items of a category are split into; each is scored without its own part.
    """

    def __init__(
        self, codec: mekiki.Client, detector: Detector, about: About, items: types_pb2.ItemFilter, folds: int
    ) -> None:
        self._codec = codec
        self._detector = detector
        self._about = about
        self._items = items
        self._folds = folds

    def score(self, false_alarm_rate: float, confidence: float, report: Report) -> dict[str, NDArray[np.float64]]:
        """The scores of all items, by category: of each as many as the promise needs.

        Raises:
            FailedPrecondition: TOO_FEW_NORMALS, before anything is scored where that is known by then.
            MekikiError: an item cannot be read or prepared.
        """
        described = [read.item for read in self._codec.codec.read_items(self._items, metadata_only=True)]
        counts = self._count_at_most(described)
        for category, count in counts.items():
            check_enough(count, false_alarm_rate, confidence, category)
        found = self._score_all(self._sort(described), len(described), report)
        for category in counts:
            check_enough(len(found.get(category, ())), false_alarm_rate, confidence, category)
        return {category: np.array(scores) for category, scores in found.items()}

    def _count_at_most(self, items: list[mekiki.Item]) -> dict[str, int]:
        """For each category the items that are enrolled in it, and all that may be near it."""
        normals, ids = self._detector.normals, {item.item_id for item in items}
        strangers, categories = len(ids - normals.items), normals.categories or ("",)
        return {category: len(ids & normals.of(category).items) + strangers for category in categories}

    def _score_all(
        self, sorted_items: dict[Comparison, list[str]], total: int, report: Report
    ) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        done = 0
        for comparison, ids in sorted_items.items():
            some = types_pb2.ItemFilter(dataset=self._items.dataset, item_ids=ids)
            for _, taken in take_items(self._codec, some, self._about):
                report(SCORING, done, total)
                category, score = self._detector.assign(taken.pixels, comparison.exclude, comparison.category)
                found.setdefault(category, []).append(score)
                done += 1
        return found

    def _sort(self, items: list[mekiki.Item]) -> dict[Comparison, list[str]]:
        """The items by what they are compared with: that is made ready once."""
        normals = self._detector.normals
        comparisons: dict[str, Comparison] = {}
        for category in normals.categories:
            folds = _keep_apart(items, normals.of(category).items, self._folds)
            comparisons |= {item: Comparison(category, fold) for item, fold in folds.items()}
        found: dict[Comparison, list[str]] = {}
        for item in items:
            found.setdefault(comparisons.get(item.item_id, STRANGER), []).append(item.item_id)
        return found


def _keep_apart(items: list[mekiki.Item], enrolled: AbstractSet[str], folds: int) -> dict[str, frozenset[str]]:
    """For every enrolled item the items that it must not be compared with: its own fold.

    Items of one group (part, day) are in one fold: photos of one part are no strangers to each other. An item without a
    group is a group of its own.
    """
    groups = group_items([item for item in items if item.item_id in enrolled])
    if not groups:
        return {}
    if len(groups) == 1:
        raise FailedPrecondition("TOO_FEW_NORMALS", "the enrolled normals are of one group: nothing to compare it with")
    parts = split_folds(groups, min(folds, len(groups)))
    apart = [frozenset(item for group in part for item in group) for part in parts]
    return {item: fold for fold in apart for item in fold}


def group_items(items: Sequence[mekiki.Item]) -> list[list[str]]:
    """The identifiers of items that are no strangers to each other, together; sorted by group, then item."""
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(f"group {item.group}" if item.group else f"item {item.item_id}", []).append(item.item_id)
    return [groups[name] for name in sorted(groups)]
