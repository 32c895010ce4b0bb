"""The index of rows that may only match rows of the same or a neighbouring cell of a grid.

Every row belongs to one cell, and an image asks for all of its cells at once: so each cell's rows are multiplied with
the (at most nine) queries around it, and are read from memory once instead of nine times. FAISS's inverted file with
the cells as lists, which reads them query by query, takes up to twice as long (docs/measurements.md).
"""

from collections.abc import Sequence
from functools import cache

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from services.anomaly.rows import Rows

_STEPS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
_COPIED = 1 << 18  # values that are copied at a time: they stay in the cache
_PRODUCTS = 1 << 23  # most that are kept at a time: 32 MB
_CANDIDATES_PER_CELL = 2


class CellIndex:
    """Rows by cell. Never changed after construction.

    Args:
        rows: any number in a cell; cells are alike in number, or memory is wasted on the smaller ones.
        grid: (rows, columns) of cells.
    """

    def __init__(self, rows: Rows, grid: tuple[int, int]) -> None:
        order = np.argsort(rows.cells, kind="stable")
        self.present, starts, counts = np.unique(rows.cells[order], return_index=True, return_counts=True)
        self.place = self.present.tobytes()
        """Equal for indices of rows in the same cells, which can be searched as one."""
        self.grid = grid
        self.table = np.full((len(counts), int(counts.max())), -1, dtype=np.int64)  # (slots, depth) numbers of rows
        places = np.arange(len(order)) - np.repeat(starts, counts)
        self.table[np.repeat(np.arange(len(counts)), counts), places] = order
        (slots, depth), dimension = self.table.shape, rows.vectors.shape[1]
        self.squares = np.empty((slots, depth), dtype=np.float32)
        # Channels before depth: the other way round the same products take up to three times as long (oneMKL).
        self.vectors = torch.empty((slots, dimension, depth))
        step = max(1, _COPIED // (depth * dimension))
        for start in range(0, slots, step):
            block = slice(start, start + step)
            vectors = rows.vectors[self.table[block]].astype(np.float32)  # (step, depth, d)
            self.squares[block] = np.einsum("sdc,sdc->sd", vectors, vectors)
            self.vectors[block] = torch.from_numpy(vectors).transpose(1, 2)
        self.squares[self.table < 0] = np.inf
        self._rows = rows

    def find_anywhere(
        self, vectors: NDArray[np.float32], barred: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and ranks (m, 1) of the rows nearest to queries (m, d) in any cell, those barred (rows,) apart."""
        counted = np.flatnonzero(~barred)
        ranks, found = faiss.knn(vectors, self._rows.vectors[counted].astype(np.float32), 1)
        return counted[found], ranks


def find_by_cell(
    indices: Sequence[CellIndex],
    vectors: NDArray[np.float32],
    cells: NDArray[np.int32],
    barred: Sequence[NDArray[np.bool_]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The two rows nearest to each query of each cell around it: (m, 18) the index, the row's number, its rank.

    A rank is the squared distance without the query's own square: it orders the rows of one query; infinite for none.

    Args:
        indices: with rows in the same cells.
        vectors: (m, d) queries.
        cells: (m,) the cell of each query.
        barred: (rows,) of each index, whether each row does not count.

    Raises:
        ValueError: two queries are in one cell.
    """
    if len(cells) and np.bincount(cells).max() > 1:
        raise ValueError("each cell must be asked for at most once")
    present, around = indices[0].present, _list_neighbours(indices[0].grid)
    asking = np.full(len(around) + 1, len(vectors), dtype=np.int64)  # the query of each cell, or the padding
    asking[cells] = np.arange(len(vectors))
    queries = torch.from_numpy(np.vstack([-2 * vectors, np.zeros_like(vectors[:1])]))
    wanted = torch.from_numpy(asking[around[present]])  # (slots, 9)
    shape = (len(present) + 1, len(_STEPS), _CANDIDATES_PER_CELL)  # the last slot is that of empty cells
    columns, ranks = np.zeros(shape, dtype=np.int64), np.full(shape, np.inf, dtype=np.float32)
    depth = sum(index.table.shape[1] for index in indices)
    step = max(1, _PRODUCTS // (len(_STEPS) * depth))
    for start in range(0, len(present), step):
        block = slice(start, min(start + step, len(present)))
        products = _multiply(indices, block, queries[wanted[block]], barred)
        columns[block], ranks[block] = _take_lowest(products)
    slots = np.full(len(around) + 1, -1, dtype=np.int64)  # of each cell; the last: beyond the border
    slots[present] = np.arange(len(present))
    # Seen from a query, the cell one step away sees that query a step the other way.
    near = slots[around[cells]]  # (m, 9)
    seen = (near, np.arange(len(_STEPS))[::-1])
    column = columns[seen].reshape(len(cells), -1)
    slot = np.repeat(near, _CANDIDATES_PER_CELL, axis=1)
    whose = np.repeat(np.arange(len(indices)), [index.table.shape[1] for index in indices])
    table = np.concatenate([index.table for index in indices], axis=1)
    return whose[column], table[slot, column], ranks[seen].reshape(len(cells), -1)


def _multiply(
    indices: Sequence[CellIndex], block: slice, queries: torch.Tensor, barred: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float32]:
    """(slots, 9, depth of all) the ranks of all rows of some slots for the queries around each, given times -2."""
    products = []
    for index, gone in zip(indices, barred, strict=True):
        squares = np.where(gone[index.table[block]], np.float32(np.inf), index.squares[block])
        products.append(torch.bmm(queries, index.vectors[block]).add_(torch.from_numpy(squares)[:, None, :]))
    joined: NDArray[np.float32] = (products[0] if len(products) == 1 else torch.cat(products, dim=2)).numpy()
    return joined


def _take_lowest(products: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Columns and ranks (slots, 9, 2) of the lowest along the last axis; overwrites what it takes."""
    columns = np.empty((*products.shape[:2], _CANDIDATES_PER_CELL), dtype=np.int64)
    ranks = np.empty(columns.shape, dtype=np.float32)
    for place in range(_CANDIDATES_PER_CELL):
        lowest = products.argmin(axis=2)[:, :, None]
        columns[:, :, place : place + 1] = lowest
        ranks[:, :, place : place + 1] = np.take_along_axis(products, lowest, axis=2)
        np.put_along_axis(products, lowest, np.inf, axis=2)
    return columns, ranks


@cache
def _list_neighbours(grid: tuple[int, int]) -> NDArray[np.int64]:
    """(rows * columns, 9) each cell and the cells around it, -1 beyond the border."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    around = np.empty((len(rows), len(_STEPS)), dtype=np.int64)
    for place, (down, right) in enumerate(_STEPS):
        inside = (rows + down >= 0) & (rows + down < grid[0]) & (columns + right >= 0) & (columns + right < grid[1])
        around[:, place] = np.where(inside, (rows + down) * grid[1] + columns + right, -1)
    return around
