"""Reads the items of one version, original or prepared, in bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.codec.align import Alignment
from services.codec.catalog import Snapshot
from services.codec.dataset import Datasets
from services.codec.encoding import Encodings
from services.codec.gop_cache import GopCache
from services.codec.items import Item, Pixels, Place
from services.codec.records import Record
from services.runtime.errors import DataLoss, FailedPrecondition, NotFound


@dataclass(frozen=True)
class Selection:
    """Conditions that must all hold; empty ones hold for every item. A category is of prepared pixels."""

    item_ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    category: str = ""


@dataclass(frozen=True, eq=False)
class Read:
    """An item's pixels, and how they were brought to which category's reference; None for original ones."""

    pixels: Pixels
    alignment: Alignment | None
    category: str = ""


def select(snapshot: Snapshot, selection: Selection) -> tuple[list[Item], list[str]]:
    """Returns the items that meet the conditions, by identifier, and the identifiers that do not exist."""
    wanted = sorted(set(selection.item_ids) or snapshot.items)
    missing = [item_id for item_id in wanted if item_id not in snapshot.items]
    items = [snapshot.items[item_id] for item_id in wanted if item_id in snapshot.items]
    return [item for item in items if _meets(item, selection)], missing


def _meets(item: Item, selection: Selection) -> bool:
    labelled = not selection.labels or not set(selection.labels).isdisjoint(item.labels)
    return labelled and (not selection.splits or item.split in selection.splits)


class OriginalReader:
    """Reads original pixels of one version."""

    def __init__(self, datasets: Datasets, snapshot: Snapshot) -> None:
        self._datasets = datasets
        self._snapshot = snapshot
        self._cache = GopCache()

    def locate(self, item: Item) -> Place | None:
        """Returns where an item's pixels lie."""
        return item.place

    def read(self, item: Item) -> Read:
        """Returns the pixels exactly; raises DataLoss, naming the item, where they are damaged."""
        return Read(self._datasets.read_pixels(self._snapshot, item, self._cache), None)

    def read_named(self, item_id: str) -> Read:
        """Reads an item that there is, given its identifier; raises as `read`."""
        return self.read(self._snapshot.items[item_id])


class PreparedReader:
    """Reads the frames of one encoding."""

    def __init__(self, encodings: Encodings, snapshot: Snapshot, record: Record) -> None:
        self._snapshot = snapshot
        self._record = record
        self._items = encodings.list_items(snapshot, record)
        self._segments = encodings.segments(snapshot, record)
        self._cache = GopCache()

    def select(self, items: Iterable[Item], category: str) -> list[Item]:
        """Returns those of a category; raises NotFound where the encoding has none of that name."""
        if category not in (kind.category.name for kind in self._record.categories):
            raise NotFound("category", category)
        encoded = ((item, self._items.get(item.item_id)) for item in items)
        return [item for item, one in encoded if one is not None and one.category == category]

    def locate(self, item: Item) -> Place | None:
        """Returns where an item's frame lies; None where it has none."""
        encoded = self._items.get(item.item_id)
        return None if encoded is None else encoded.place

    def read(self, item: Item) -> Read:
        """Returns an item's frame.

        Raises:
            FailedPrecondition: the item was appended after the encoding was made, or was damaged then.
            DataLoss: the frame is damaged; names the item.
        """
        encoded = self._items.get(item.item_id)
        if encoded is None:
            where = f"encoding {self._record.encoding_id!r} of {self._snapshot.name!r}"
            raise FailedPrecondition("NOT_ENCODED", f"item {item.item_id!r} is not in {where}; encode again")
        try:
            pixels = self._cache.read(self._segments, encoded.place)
        except DataLoss as error:
            message = f"item {item.item_id!r} of {self._snapshot.name!r} is damaged in its prepared form"
            raise DataLoss(f"{message}: {error.message}") from error
        return Read(pixels, encoded.alignment, encoded.category)
