"""A bank at one version, as engines see it."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.anomaly.engines.engine import Made, Neighbours, NormalItems
from services.anomaly.memory import Memory
from services.anomaly.nearest import find_nearest
from services.anomaly.rows import Rows
from services.anomaly.segment import Segment
from services.runtime.errors import FailedPrecondition


@dataclass(frozen=True)
class Snapshot:
    """The bank at one version, ready to be searched; an engine sees one category of it as `NormalItems`."""

    version: int
    segments: tuple[Segment, ...] = ()
    forgotten: Mapping[str, frozenset[str]] = field(default_factory=dict)  # segment key -> item ids that count no more
    memory: Memory = field(default_factory=Memory, repr=False, compare=False)

    @property
    def items(self) -> frozenset[str]:
        """The ids of all items that count."""
        return frozenset(item for segment in self.segments for item in self._live(segment))

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of all categories that have items, sorted."""
        return tuple(sorted({segment.category for segment in self.segments}))

    def of(self, category: str) -> "Snapshot":
        """The items of one category alone, with what was made of them."""
        segments = tuple(segment for segment in self.segments if segment.category == category)
        if len(segments) == len(self.segments):
            return self
        return Snapshot(self.version, segments, self.forgotten, self.memory.of(category))

    def keep_memory(self, before: "Snapshot") -> None:
        """What was made of categories that are as they were in another version is not made again."""
        for category in self.categories:
            if self.list_rows(category) == before.list_rows(category):
                self.memory.keep(category, before.memory)

    def list_rows(self, category: str) -> list[tuple[str, frozenset[str]]]:
        """Which rows count in a category: its segments by key, and the items that are forgotten in each."""
        return [(segment.key, self.gone(segment)) for segment in self.segments if segment.category == category]

    def nearest(
        self, vectors: NDArray[np.float16], cells: NDArray[np.int32], exclude: AbstractSet[str] = frozenset()
    ) -> Neighbours:
        """The nearest vector for each query (n, d) that belongs to none of the items in `exclude`.

        Raises:
            FailedPrecondition: BANK_EMPTY, nothing is left to compare with.
        """
        living, barred = [], []
        for segment in self.segments:
            gone = segment.rows.mark(exclude | self.gone(segment))
            if not gone.all():
                living.append(segment)
                barred.append(gone[segment.rows.owners])
        if not living:
            raise _refuse_empty()
        distances, items = find_nearest(living, barred, vectors.astype(np.float32), cells)
        return Neighbours(np.sqrt(distances), tuple(items))

    def all_vectors(self, exclude: AbstractSet[str] = frozenset()) -> NDArray[np.float16]:
        """(n, d) every vector that counts, ordered by item id, without the items in `exclude`."""
        parts = [segment.rows.without(exclude | self.gone(segment)) for segment in self.segments]
        if not any(part.items for part in parts):
            raise _refuse_empty()
        return Rows.join(parts).vectors

    def count(self, exclude: AbstractSet[str] = frozenset()) -> int:
        """How many items count that are not in `exclude`."""
        return len(self.items - exclude)

    def remember(
        self, make: Callable[["NormalItems", AbstractSet[str]], Made], exclude: AbstractSet[str] = frozenset()
    ) -> Made:
        """What `make` makes of this version without the items in `exclude`; see `NormalItems`."""
        return self.memory.recall(exclude, lambda: make(self, exclude))

    def live_rows(self, segment: Segment) -> Rows:
        """The rows of `segment` without forgotten items."""
        return segment.rows.without(self.gone(segment))

    def gone(self, segment: Segment) -> frozenset[str]:
        """The items of `segment` that count no more."""
        return self.forgotten.get(segment.key, frozenset())

    def _live(self, segment: Segment) -> Iterable[str]:
        gone = self.gone(segment)
        return (item for item in segment.rows.items if item not in gone)


def _refuse_empty() -> FailedPrecondition:
    return FailedPrecondition("BANK_EMPTY", "no normal item is left to compare with: enroll some first")
