"""An immutable piece of a bank: the vectors of some normal items, and the index that searches them."""

from collections.abc import Set as AbstractSet
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.anomaly.cell_index import CellIndex
from services.anomaly.engines.engine import Layout
from services.anomaly.inverted import Inverted
from services.anomaly.rows import Rows
from services.anomaly.vector_index import VectorIndex


class _Index(Protocol):
    """Finds the few rows that may be nearest. Their order and distances are not trusted."""

    def find(
        self, vectors: NDArray[np.float32], cells: NDArray[np.int32], barred: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """(m, k) rows by number, -1 for none, for queries (m, d) in cells (m,); those `barred` (rows,) do not count."""
        ...

    def find_anywhere(self, vectors: NDArray[np.float32], barred: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The same among all rows that count: slow, and there is always one."""
        ...


class Segment:
    """Rows with their index. Never changed after construction."""

    def __init__(
        self,
        key: str,
        sha256: str,
        rows: Rows,
        layout: Layout,
        inverted: Inverted | None = None,
        category: str = "",
    ) -> None:
        self.key = key
        self.sha256 = sha256
        self.rows = rows
        self.category = category  # of all its items
        self.inverted = inverted
        self.names = np.array(rows.items, dtype=object)  # (items,)
        self._index = _open_index(rows, layout, inverted)

    def nearest(
        self, vectors: NDArray[np.float32], cells: NDArray[np.int32], excluded: AbstractSet[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Squared Euclidean distance (m,) and owner (m,) of each query's nearest row; infinite where there is none.

        Args:
            vectors: (m, d) queries.
            cells: (m,) the cell of each query; each at most once where rows are arranged by cells.
            excluded: item ids whose rows do not count.
        """
        items = self.rows.mark(excluded)
        if self._index is None or items.all():
            return np.full(len(vectors), np.inf, dtype=np.float32), np.zeros(len(vectors), dtype=np.int32)
        barred = items[self.rows.owners]
        distances, owners = self._rank(vectors, self._index.find(vectors, cells, barred), barred)
        lost = np.flatnonzero(np.isinf(distances))  # rare: all that was found is barred, or there is nothing near
        if lost.size:
            found = self._index.find_anywhere(vectors[lost], barred)
            distances[lost], owners[lost] = self._rank(vectors[lost], found, barred)
        return distances, owners

    def _rank(
        self, vectors: NDArray[np.float32], found: NDArray[np.int64], barred: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Of the rows `found` (m, k), the nearest that is not barred; of equally near ones the first item.

        An index ranks in blocks, on which the last bits depend. Here the distance of each pair is computed alone: so
        the result does not depend on how the bank is cut into segments or on what else is searched.
        """
        difference = self.rows.vectors[found].astype(np.float32) - vectors[:, None, :]  # (m, k, d)
        distances = (difference * difference).sum(axis=2)
        owners = self.rows.owners[found]
        distances[(found < 0) | barred[found]] = np.inf
        best = np.lexsort((owners, distances), axis=1)[:, :1]
        return np.take_along_axis(distances, best, axis=1)[:, 0], np.take_along_axis(owners, best, axis=1)[:, 0]


def _open_index(rows: Rows, layout: Layout, inverted: Inverted | None) -> _Index | None:
    if layout.arrangement == "stack":
        return None
    return VectorIndex(rows, layout, inverted) if layout.grid is None else CellIndex(rows, layout.grid)
