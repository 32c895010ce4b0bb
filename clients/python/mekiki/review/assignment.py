"""What is to be looked through, and in which order."""

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mekiki import AnnotationState, Item, ItemFilter, errors


@dataclass(frozen=True)
class Assignment:
    """What a person has been given to look through."""

    items: ItemFilter
    reviewer: str
    """Who: the source of the boxes that this person draws."""

    classifier: str = ""
    """Explains pictures; empty means the one that proposed a box, where its source says so."""

    detector: str = ""
    """Judges every item; empty for none."""

    limit: int = 5000
    """Most items: the most doubtful ones."""

    segmenter: str = ""
    """Says which pixels show an item's first label; empty for none."""

    def require_detector(self) -> str:
        """The detector. Raises FailedPrecondition where the page was opened without one."""
        return _require(self.detector, "detector")

    def require_segmenter(self) -> str:
        """The segmenter. Raises FailedPrecondition where the page was opened without one."""
        return _require(self.segmenter, "segmenter")


def _require(name: str, option: str) -> str:
    if not name:
        raise errors.FailedPrecondition(f"the page was opened without --{option}", reason=f"NO_{option.upper()}")
    return name


def sort_by_doubt(items: Iterable[Item], limit: int) -> list[Item]:
    """The most doubtful items, at most `limit`, the most doubtful first.

    First those with a box that its machine wants to be looked at, then other proposals, each by the lowest confidence;
    then items without a box; last those of which a person has judged every box.
    """
    return heapq.nsmallest(limit, items, key=_measure_certainty)


def sort_by_mask(items: Iterable[Item], limit: int, labels: Collection[str]) -> list[Item]:
    """At most `limit` items, those first of whose pixels nothing is known yet.

    Then those with scribbles; then those whose first label is none of `labels`, a segmenter's; last those with a mask.
    """

    def measure(item: Item) -> tuple[int, str]:
        if item.has_mask:
            return 3, item.item_id
        if item.has_trimap:
            return 1, item.item_id
        return 0 if item.label in labels else 2, item.item_id

    return heapq.nsmallest(limit, items, key=measure)


def list_unmasked(items: Iterable[Item], labels: Collection[str]) -> dict[str, str]:
    """First labels, by identifier, of items of whose pixels nothing is known and whose label is one of `labels`."""
    return {
        item.item_id: item.label for item in items if item.label in labels and not (item.has_mask or item.has_trimap)
    }


def _measure_certainty(item: Item) -> tuple[int, float, str]:
    open_ones = [each for each in item.annotations if each.state is AnnotationState.PROPOSED]
    if not open_ones:
        return 3 if item.annotations else 2, 0.0, item.item_id
    is_unsure = any(each.needs_review for each in open_ones)
    return 0 if is_unsure else 1, min(each.score for each in open_ones), item.item_id
