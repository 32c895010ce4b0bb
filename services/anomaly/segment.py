"""An immutable piece of a bank: the vectors of some normal items, and the FAISS index that searches them."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import safetensors
import safetensors.numpy
from faiss.contrib import ivf_tools
from numpy.typing import NDArray

from services.anomaly.engines.engine import Embedding, Layout
from services.runtime.errors import DataLoss

# FAISS ranks (its distances depend on block sizes in the last bits), we compute the distance of its first few again,
# each pair alone: so the result does not depend on how the bank is cut into segments or on what else is searched.
_CANDIDATES = 4
_CANDIDATES_WITH_EXCLUSIONS = 12


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
        stays = np.array([item not in gone for item in self.items], dtype=np.bool_)
        kept = stays[self.owners]
        renumbered = (np.cumsum(stays) - 1).astype(np.int32)[self.owners[kept]]
        items = tuple(item for item in self.items if item not in gone)
        return Rows(items, renumbered, self.cells[kept], self.vectors[kept])

    @staticmethod
    def join(parts: Sequence["Rows"]) -> "Rows":
        """The rows of parts that have no item in common."""
        names = sorted(item for part in parts for item in part.items)
        number = {item: index for index, item in enumerate(names)}
        owners = np.concatenate([_lookup(part, number)[part.owners] for part in parts])
        order = np.argsort(owners, kind="stable")
        cells = np.concatenate([part.cells for part in parts])[order]
        vectors = np.concatenate([part.vectors for part in parts])[order]
        return Rows(tuple(names), owners[order], cells, vectors)

    def to_bytes(self) -> bytes:
        """A safetensors file: owners, cells, vectors; the item ids as JSON in its header."""
        tensors: dict[str, NDArray[Any]] = {"owners": self.owners, "cells": self.cells, "vectors": self.vectors}
        return safetensors.numpy.save(tensors, metadata={"items": json.dumps(self.items)})

    @staticmethod
    def from_bytes(data: bytes, sha256: str) -> "Rows":
        """Read what `to_bytes` wrote.

        Raises:
            DataLoss: the bytes are not those that were written.
        """
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataLoss("a segment of the bank does not match its checksum")
        tensors = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        items = tuple(json.loads(header["__metadata__"]["items"]))
        return Rows(items, tensors["owners"], tensors["cells"], tensors["vectors"])


def _lookup(part: Rows, number: dict[str, int]) -> NDArray[np.int32]:
    return np.array([number[item] for item in part.items], dtype=np.int32)


class Segment:
    """Rows with their index. Never changed after construction: FAISS may be read from many threads, not mutated."""

    def __init__(self, key: str, sha256: str, rows: Rows, layout: Layout) -> None:
        self.key = key
        self.sha256 = sha256
        self.rows = rows
        self._layout = layout
        self._around = _list_neighbours(layout.grid) if layout.grid else None
        self._index: Any = _build_index(rows, layout)  # the stubs of FAISS do not know what its wrappers add

    def nearest(
        self, vectors: NDArray[np.float32], cells: NDArray[np.int32], excluded: AbstractSet[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Squared Euclidean distance (m,) and owner (m,) of each query's nearest row; infinite where there is none.

        Args:
            vectors: (m, d) queries.
            cells: (m,) the cell of each query.
            excluded: item ids whose rows do not count.
        """
        barred = np.array([item in excluded for item in self.rows.items], dtype=np.bool_)[self.rows.owners]
        if barred.all():
            return np.full(len(vectors), np.inf, dtype=np.float32), np.zeros(len(vectors), dtype=np.int32)
        count = _CANDIDATES_WITH_EXCLUSIONS if barred.any() else _CANDIDATES
        found = self._search(vectors, self._choose_lists(cells), count, None)
        distances, owners = self._rank(vectors, found, barred)
        # Rare: all candidates were excluded, or the neighbouring cells are empty. Then the selector, then every cell.
        for lists in (self._choose_lists(cells), self._choose_all_lists(len(cells))):
            lost = np.flatnonzero(np.isinf(distances))
            if lost.size:
                found = self._search(vectors[lost], None if lists is None else lists[lost], _CANDIDATES, ~barred)
                distances[lost], owners[lost] = self._rank(vectors[lost], found, barred)
        return distances, owners

    def _search(
        self,
        vectors: NDArray[np.float32],
        lists: NDArray[np.int64] | None,
        count: int,
        allowed: NDArray[np.bool_] | None,
    ) -> NDArray[np.int64]:
        """Row numbers (m, count) of the nearest rows as FAISS ranks them, -1 where there are fewer."""
        count = min(count, len(self.rows.owners))
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        chosen: dict[str, Any] = {} if lists is None else {"nprobe": lists.shape[1]}
        if bits is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(len(self.rows.owners), faiss.swig_ptr(bits))
        if lists is None:
            found: NDArray[np.int64] = self._index.search(vectors, count, params=faiss.SearchParameters(**chosen))[1]
            return found
        return self._search_lists(vectors, count, lists, faiss.SearchParametersIVF(**chosen))

    def _search_lists(
        self, vectors: NDArray[np.float32], count: int, lists: NDArray[np.int64], parameters: faiss.SearchParametersIVF
    ) -> NDArray[np.int64]:
        """Search given lists (m, p): the call beneath the Python wrapper of FAISS, which takes no parameters here."""
        queries, lists = np.ascontiguousarray(vectors), np.ascontiguousarray(lists)
        coarse = np.zeros(lists.shape, dtype=np.float32)
        distances = np.empty((len(queries), count), dtype=np.float32)
        found = np.empty((len(queries), count), dtype=np.int64)
        pointers = [faiss.swig_ptr(array) for array in (lists, coarse, distances, found)]
        self._index.search_preassigned_c(len(queries), faiss.swig_ptr(queries), count, *pointers, False, parameters)
        return found

    def _rank(
        self, vectors: NDArray[np.float32], found: NDArray[np.int64], barred: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Of the rows `found` (m, k), the nearest that is not barred; of equally near ones the first item."""
        difference = self.rows.vectors[found].astype(np.float32) - vectors[:, None, :]  # (m, k, d)
        distances = (difference * difference).sum(axis=2)
        distances[(found < 0) | barred[found]] = np.inf
        owners = self.rows.owners[found]
        best = np.lexsort((owners, distances), axis=1)[:, :1]
        return np.take_along_axis(distances, best, axis=1)[:, 0], np.take_along_axis(owners, best, axis=1)[:, 0]

    def _choose_lists(self, cells: NDArray[np.int32]) -> NDArray[np.int64] | None:
        return None if self._around is None else self._around[cells]

    def _choose_all_lists(self, queries: int) -> NDArray[np.int64] | None:
        if self._around is None:
            return None
        return np.broadcast_to(np.arange(len(self._around), dtype=np.int64), (queries, len(self._around)))


def _build_index(rows: Rows, layout: Layout) -> faiss.Index | None:
    if layout.arrangement == "stack":
        return None
    vectors = rows.vectors.astype(np.float32)
    if layout.grid is None:
        inner = layout.arrangement == "cosine"
        flat = faiss.IndexFlatIP(layout.dimension) if inner else faiss.IndexFlatL2(layout.dimension)
        flat.add(vectors)
        return flat
    # The lists are the cells of the grid: which list a vector belongs to is known, so nothing is trained or quantised.
    quantizer = faiss.IndexFlatL2(layout.dimension)
    index = faiss.IndexIVFFlat(quantizer, layout.dimension, layout.grid[0] * layout.grid[1])
    index.is_trained = True
    ivf_tools.add_preassigned(index, vectors, rows.cells.astype(np.int64))  # type: ignore[no-untyped-call]
    return index


def _list_neighbours(grid: tuple[int, int]) -> NDArray[np.int64]:
    """(rows * columns, 9) each cell and the cells around it, -1 beyond the border."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    around = np.empty((len(rows), len(steps)), dtype=np.int64)
    for place, (down, right) in enumerate(steps):
        inside = (rows + down >= 0) & (rows + down < grid[0]) & (columns + right >= 0) & (columns + right < grid[1])
        around[:, place] = np.where(inside, (rows + down) * grid[1] + columns + right, -1)
    return around
