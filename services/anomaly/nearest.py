"""The nearest rows among several segments: their indices propose a few, and only the best of all are measured.

An index ranks in blocks, on which the last bits of its distances depend. What is returned is computed pair by pair: so
it does not depend on how a bank is cut into segments or on what else is searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.anomaly.cell_index import CellIndex, find_by_cell
from services.anomaly.segment import Segment
from services.anomaly.vector_index import VectorIndex

_MEASURED = 4  # proposals of a query that are measured, at most
_RANK_ERROR = 1e-4  # of the squared lengths that make up a rank; single precision stays far below


@dataclass(frozen=True)
class _Proposals:
    """Rows that may be nearest to each of m queries."""

    segments: NDArray[np.int64]  # (m, k) their numbers
    rows: NDArray[np.int64]  # (m, k) any number where the rank is infinite
    ranks: NDArray[np.float32]  # (m, k) the lower, the nearer; infinite for none

    @staticmethod
    def best_of(several: Sequence["_Proposals"], vectors: NDArray[np.float32]) -> "_Proposals":
        """The few with the lowest ranks, without those that cannot be nearest to the queries (m, d)."""
        ranks = np.concatenate([each.ranks for each in several], axis=1)
        order = ranks.argsort(axis=1, kind="stable")[:, :_MEASURED]
        segments = np.concatenate([each.segments for each in several], axis=1)
        rows = np.concatenate([each.rows for each in several], axis=1)
        best = _Proposals(*(np.take_along_axis(each, order, axis=1) for each in (segments, rows, ranks)))
        lowest = best.ranks[:, 0]
        error = _RANK_ERROR * (np.abs(lowest) + np.einsum("md,md->m", vectors, vectors))
        best.ranks[best.ranks > (lowest + error)[:, None]] = np.inf
        return best


def find_nearest(
    segments: Sequence[Segment],
    barred: Sequence[NDArray[np.bool_]],
    vectors: NDArray[np.float32],
    cells: NDArray[np.int32],
) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
    """Squared Euclidean distance (m,) and item (m,) of each query's nearest row; of equally near ones the first item.

    Args:
        segments: each with an index and a row that counts, at least one.
        barred: (rows,) of each segment, which rows do not count.
        vectors: (m, d) queries.
        cells: (m,) the cell of each query; each at most once where rows are arranged by cells.
    """
    distances, items = _measure(segments, vectors, _propose(segments, barred, vectors, cells))
    lost = np.flatnonzero(np.isinf(distances))  # rare: all that was proposed is barred, or there is nothing near
    if lost.size:
        found = [
            _from_segment(number, *segment.index.find_anywhere(vectors[lost], which))
            for number, (segment, which) in enumerate(zip(segments, barred, strict=True))
            if segment.index is not None
        ]
        distances[lost], items[lost] = _measure(segments, vectors[lost], _Proposals.best_of(found, vectors[lost]))
    return distances, items


def _propose(
    segments: Sequence[Segment],
    barred: Sequence[NDArray[np.bool_]],
    vectors: NDArray[np.float32],
    cells: NDArray[np.int32],
) -> _Proposals:
    found = []
    by_cell: dict[bytes, list[tuple[int, CellIndex]]] = {}
    for number, segment in enumerate(segments):
        if isinstance(segment.index, CellIndex):
            by_cell.setdefault(segment.index.place, []).append((number, segment.index))
        elif isinstance(segment.index, VectorIndex):
            found.append(_from_segment(number, *segment.index.find(vectors, barred[number])))
    for group in by_cell.values():  # segments with rows in the same cells, as one: the usual case is a single group
        numbers, indices = zip(*group, strict=True)
        places, rows, ranks = find_by_cell(indices, vectors, cells, [barred[number] for number in numbers])
        found.append(_Proposals(np.array(numbers)[places], rows, ranks))
    return _Proposals.best_of(found, vectors)


def _from_segment(number: int, rows: NDArray[np.int64], ranks: NDArray[np.float32]) -> _Proposals:
    return _Proposals(np.full(rows.shape, number, dtype=np.int64), rows, ranks)


def _measure(
    segments: Sequence[Segment], vectors: NDArray[np.float32], proposals: _Proposals
) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
    """See `find_nearest`; infinite where nothing is proposed."""
    queries, places = np.nonzero(np.isfinite(proposals.ranks))  # in the order of the queries
    numbers, rows = proposals.segments[queries, places], proposals.rows[queries, places]
    difference = np.empty((len(queries), vectors.shape[1]), dtype=np.float32)
    names = np.empty(len(queries), dtype=object)
    for number in np.unique(numbers):
        here = np.flatnonzero(numbers == number)
        difference[here] = segments[number].rows.vectors[rows[here]]
        names[here] = segments[number].names[segments[number].rows.owners[rows[here]]]
    difference -= vectors[queries]
    np.square(difference, out=difference)
    measured = difference.sum(axis=1)
    distances = np.full(len(vectors), np.inf, dtype=np.float32)
    items = np.full(len(vectors), "", dtype=object)
    _take_least(distances, queries, measured)
    tied = np.flatnonzero(measured == distances[queries])
    _take_least(items, queries[tied], names[tied])
    return distances, items


def _take_least(least: NDArray[Any], queries: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Puts the least of each query's values where `least` has that query; queries are in order."""
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    least[queries[starts]] = np.minimum.reduceat(values, starts)
