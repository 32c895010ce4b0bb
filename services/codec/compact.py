"""Writes the exact pixels of a data set anew, in an order in which neighbours are alike, and as small as they get.

What was appended lies in many small segments, fast to write. They are read, ordered by likeness, written as large ones
in whichever form is smallest, read back and compared, and named by the next manifest, segment by segment: whoever is
killed in between leaves a data set that is whole, and goes on with what is left. Readers of older versions keep their
segments until the sweep's grace is over. What a compaction wrote is not touched by the next one.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.codec.ahead import map_ahead
from services.codec.catalog import Snapshot
from services.codec.dataset import Datasets
from services.codec.geometry import IDENTITY
from services.codec.items import Item, Pixels
from services.codec.order import describe, order_by_likeness
from services.codec.progress import Progress
from services.codec.reading import OriginalReader
from services.codec.reference import count_bits, to_eight_bits
from services.codec.segments import PACKED
from services.codec.storage import Body
from services.runtime.errors import DataLoss

RUN_ITEMS = 256
RUN_BYTES = 1 << 30
"""Raw pixels of one segment, at most."""
_LEAST_ALIKE = 4
"""Images of one size that are worth a video of their own; fewer become stills beside others."""


@dataclass(frozen=True)
class Compaction:
    """What a compaction came to: the version that it made, how many items it moved, and what all took and takes."""

    version: int
    moved_count: int
    bytes_before: int
    bytes_after: int
    unreadable: tuple[str, ...]


class Compactor:
    """Compacts data sets.

    Args:
        datasets: all of them.
        progress: is told how far it is.
        threads: images worked on at once.
    """

    def __init__(self, datasets: Datasets, progress: Progress, threads: int) -> None:
        self._datasets = datasets
        self._progress = progress
        self._threads = threads

    def compact(self, name: str) -> Compaction:
        """Compacts what was appended since the last time.

        Raises:
            NotFound: no such data set.
            DataLoss: what was written does not read back; nothing is lost by that.
            Cancelled: the progress said so.
        """
        snapshot = self._datasets.open(name)
        before = snapshot.body["stored_bytes"]
        loose = [item for item in snapshot.items.values() if not item.place.segment.startswith(PACKED)]
        runs, unreadable = self._cut(snapshot, list({item.content: item for item in loose}.values()))
        total, moved = sum(len(run) for run in runs), 0
        for run in runs:
            self._progress.report("writing segments", moved, total)
            snapshot = self._move(snapshot, run)
            moved += len(run)
        newest = self._datasets.open(name)
        return Compaction(newest.number, moved, before, newest.body["stored_bytes"], tuple(unreadable))

    def _cut(self, snapshot: Snapshot, items: Sequence[Item]) -> tuple[list[list[Item]], list[str]]:
        """Returns runs of items to write together, and those that cannot be read, which stay where they are."""
        small: dict[tuple[int, ...], list[tuple[Item, np.ndarray]]] = defaultdict(list)
        unreadable = []

        def look(item: Item) -> np.ndarray | None:
            try:
                pixels = self._datasets.read_pixels(snapshot, item)
            except DataLoss:
                return None
            return describe(to_eight_bits(pixels, count_bits(pixels), 1), IDENTITY, item.width, item.height)

        for number, (item, seen) in enumerate(zip(items, map_ahead(look, items, self._threads), strict=True)):
            self._progress.report("comparing images", number, len(items))
            if seen is None:
                unreadable.append(item.item_id)
            else:
                small[item.width, item.height, item.channels, item.bit_depth].append((item, seen))
        alike = [group for group in small.values() if len(group) >= _LEAST_ALIKE]
        odd = [item for group in small.values() if len(group) < _LEAST_ALIKE for item, _ in group]
        runs = []
        for group in alike:
            order = order_by_likeness(np.stack([seen for _, seen in group]))
            runs += _split([group[place][0] for place in order])
        return [*runs, *_split(odd)], unreadable

    def _move(self, snapshot: Snapshot, run: Sequence[Item]) -> Snapshot:
        """Writes a run of items as one segment, and names it for all items with those pixels."""
        segments = self._datasets.segments(snapshot)

        def read() -> Iterator[Pixels]:
            return map_ahead(lambda item: self._datasets.read_pixels(snapshot, item), run, self._threads)

        written = segments.write_smallest([item.item_id for item in run], read, self._threads)
        moved = {item.content: place for item, place in zip(run, written.places, strict=True)}
        reader = OriginalReader(self._datasets, snapshot)
        for item in run:
            reader.read(replace(item, place=moved[item.content]))  # as it was, or it stays where it is

        def rename(newest: Snapshot) -> Body:
            return self._datasets.move(newest, moved)

        return self._datasets.commit(snapshot, rename)


def _split(items: Sequence[Item]) -> list[list[Item]]:
    """Cuts into runs that are not too long, nor too large."""
    runs: list[list[Item]] = []
    held = 0
    for item in items:
        if not runs or len(runs[-1]) >= RUN_ITEMS or held + item.pixel_bytes > RUN_BYTES:
            runs.append([])
            held = 0
        runs[-1].append(item)
        held += item.pixel_bytes
    return runs
