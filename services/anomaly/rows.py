"""Vectors of some normal items, and whose they are: what a segment of a bank holds."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.anomaly.engines.engine import Embedding

_BLOCK = 1 << 13  # rows


@dataclass(frozen=True)
class Rows:
    """Vectors and whose they are; items are sorted, so that owner numbers order like item ids."""

    items: tuple[str, ...]
    owners: NDArray[np.int32]  # (n,) index into items, ascending
    cells: NDArray[np.int32]  # (n,)
    vectors: NDArray[np.float16]  # (n, d)

    @staticmethod
    def of(contributions: Iterable[tuple[str, Embedding]]) -> "Rows":
        """The rows of some items with distinct ids."""
        ordered = sorted(contributions, key=lambda contribution: contribution[0])
        lengths = [len(embedding.vectors) for _, embedding in ordered]
        return Rows(
            items=tuple(item for item, _ in ordered),
            owners=np.repeat(np.arange(len(ordered), dtype=np.int32), lengths),
            cells=np.concatenate([embedding.cells for _, embedding in ordered]),
            vectors=np.concatenate([embedding.vectors for _, embedding in ordered]),
        )

    def without(self, gone: AbstractSet[str]) -> "Rows":
        """The rows of the items that are not in `gone`."""
        if gone.isdisjoint(self.items):
            return self
        stays = ~self.mark(gone)
        kept = stays[self.owners]
        renumbered = (np.cumsum(stays) - 1).astype(np.int32)[self.owners[kept]]
        items = tuple(item for item in self.items if item not in gone)
        return Rows(items, renumbered, self.cells[kept], _take(self.vectors, np.flatnonzero(kept)))

    def count_without(self, gone: AbstractSet[str]) -> int:
        """How many rows belong to items that are not in `gone`."""
        if gone.isdisjoint(self.items):
            return len(self.owners)
        return len(self.owners) - int(np.count_nonzero(self.mark(gone)[self.owners]))

    def mark(self, chosen: AbstractSet[str]) -> NDArray[np.bool_]:
        """(items,) whether each item is in `chosen`."""
        if not chosen:
            return np.zeros(len(self.items), dtype=np.bool_)
        return np.fromiter((item in chosen for item in self.items), np.bool_, len(self.items))

    @staticmethod
    def join(parts: Sequence["Rows"]) -> "Rows":
        """The rows of parts that have no item in common."""
        names = sorted(item for part in parts for item in part.items)
        number = {item: index for index, item in enumerate(names)}
        owners = np.concatenate([_lookup(part, number)[part.owners] for part in parts])
        order = np.argsort(owners, kind="stable")
        cells = np.concatenate([part.cells for part in parts])[order]
        vectors = _take(np.concatenate([part.vectors for part in parts]), order)
        return Rows(tuple(names), owners[order], cells, vectors)


def _lookup(part: Rows, number: dict[str, int]) -> NDArray[np.int32]:
    return np.array([number[item] for item in part.items], dtype=np.int32)


def _take(vectors: NDArray[np.float16], chosen: NDArray[np.int64]) -> NDArray[np.float16]:
    """Some vectors, in that order. By the block: numpy lets nobody else run meanwhile, and these may be gigabytes."""
    taken = np.empty((len(chosen), vectors.shape[1]), dtype=vectors.dtype)
    for start in range(0, len(chosen), _BLOCK):
        block = slice(start, start + _BLOCK)
        taken[block] = vectors[chosen[block]]
    return taken
