"""The index of rows that may only match rows of the same or a neighbouring cell of a grid.

Every row belongs to one cell, and an image asks for all of its cells at once: so each cell's rows are multiplied with
the (at most nine) queries around it, and are read from memory once instead of nine times. FAISS's inverted file with
the cells as lists, which reads them query by query, takes up to twice as long (docs/measurements.md).
"""

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from services.anomaly.rows import Rows

_STEPS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
_PRODUCTS = 1 << 23  # most that are kept at a time: 32 MB
_CANDIDATES = 4  # of a query
_CANDIDATES_PER_CELL = 2


class CellIndex:
    """Rows by cell. Never changed after construction.

    Args:
        rows: any number in a cell; cells are alike in number, or memory is wasted on the smaller ones.
        grid: (rows, columns) of cells.
    """

    def __init__(self, rows: Rows, grid: tuple[int, int]) -> None:
        order = np.argsort(rows.cells, kind="stable")
        present, starts, counts = np.unique(rows.cells[order], return_index=True, return_counts=True)
        places = np.arange(len(order)) - np.repeat(starts, counts)
        self._table = np.full((len(present), int(counts.max())), -1, dtype=np.int64)  # (slots, depth) numbers of rows
        self._table[np.repeat(np.arange(len(present)), counts), places] = order
        vectors = rows.vectors[self._table].astype(np.float32)  # (slots, depth, d)
        squares = np.einsum("sdc,sdc->sd", vectors, vectors)
        squares[self._table < 0] = np.inf
        self._rows = rows
        # Channels before depth: the other way round the same products take up to three times as long (oneMKL).
        self._vectors, self._squares = torch.from_numpy(np.ascontiguousarray(vectors.transpose(0, 2, 1))), squares
        self._around = _list_neighbours(grid)
        self._present = present
        self._slots = np.full(grid[0] * grid[1] + 1, -1, dtype=np.int64)  # of each cell; the last: beyond the border
        self._slots[present] = np.arange(len(present))

    def find(
        self, vectors: NDArray[np.float32], cells: NDArray[np.int32], barred: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """(m, 4) numbers of the rows nearest to each query, -1 for none: of each cell around it two at most.

        Args:
            vectors: (m, d) queries.
            cells: (m,) the cell of each query, each at most once.
            barred: (rows,) whether each row does not count.

        Raises:
            ValueError: two queries are in one cell.
        """
        if len(np.unique(cells)) < len(cells):
            raise ValueError("each cell must be asked for at most once")
        asking = np.full(len(self._around) + 1, len(vectors), dtype=np.int64)  # the query of each cell, or the padding
        asking[cells] = np.arange(len(vectors))
        queries = torch.from_numpy(np.vstack([-2 * vectors, np.zeros_like(vectors[:1])]))
        around = asking[self._around[self._present]]  # (slots, 9)
        shape = (len(self._present) + 1, len(_STEPS), _CANDIDATES_PER_CELL)  # the last slot is that of empty cells
        found, ranks = np.full(shape, -1, dtype=np.int64), np.full(shape, np.inf, dtype=np.float32)
        step = max(1, _PRODUCTS // (len(_STEPS) * self._table.shape[1]))
        for start in range(0, len(self._present), step):
            block = slice(start, min(start + step, len(self._present)))
            found[block], ranks[block] = self._rank(block, queries[torch.from_numpy(around[block])], barred)
        # Seen from a query, the cell one step away sees that query a step the other way.
        places = (self._slots[self._around[cells]], np.arange(len(_STEPS))[::-1])
        order = ranks[places].reshape(len(cells), -1).argsort(axis=1)[:, :_CANDIDATES]
        return np.take_along_axis(found[places].reshape(len(cells), -1), order, axis=1)

    def find_anywhere(self, vectors: NDArray[np.float32], barred: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(m, 1) numbers of the rows nearest to queries (m, d) in any cell, those that are barred (rows,) apart."""
        counted = np.flatnonzero(~barred)
        return counted[faiss.knn(vectors, self._rows.vectors[counted].astype(np.float32), 1)[1]]

    def _rank(
        self, block: slice, queries: torch.Tensor, barred: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and ranks (slots, 9, 2) of the nearest rows of each slot to each query around it.

        The queries (slots, 9, d) are given times -2. A rank is the squared distance without the query's
        own square: it orders the rows of one query.
        """
        table = self._table[block]
        squares = np.where(barred[table], np.float32(np.inf), self._squares[block])
        every = torch.bmm(queries, self._vectors[block]).add_(torch.from_numpy(squares)[:, None, :]).numpy()
        best = np.empty((*every.shape[:2], _CANDIDATES_PER_CELL), dtype=np.int64)
        ranks = np.empty(best.shape, dtype=np.float32)
        for place in range(_CANDIDATES_PER_CELL):
            nearest = every.argmin(axis=2)[:, :, None]
            best[:, :, place : place + 1] = nearest
            ranks[:, :, place : place + 1] = np.take_along_axis(every, nearest, axis=2)
            np.put_along_axis(every, nearest, np.inf, axis=2)
        numbers = table[np.arange(len(table))[:, None, None], best]
        return np.where(np.isinf(ranks), -1, numbers), ranks


def _list_neighbours(grid: tuple[int, int]) -> NDArray[np.int64]:
    """(rows * columns, 9) each cell and the cells around it, -1 beyond the border."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    around = np.empty((len(rows), len(_STEPS)), dtype=np.int64)
    for place, (down, right) in enumerate(_STEPS):
        inside = (rows + down >= 0) & (rows + down < grid[0]) & (columns + right >= 0) & (columns + right < grid[1])
        around[:, place] = np.where(inside, (rows + down) * grid[1] + columns + right, -1)
    return around
