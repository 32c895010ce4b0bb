"""An immutable piece of a bank: the vectors of some normal items, and the FAISS index that searches them."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from faiss.contrib import ivf_tools
from numpy.typing import NDArray

from services.anomaly.engines.engine import Layout
from services.anomaly.inverted import Inverted, open_index
from services.anomaly.rows import Rows

# FAISS ranks (its distances depend on block sizes in the last bits), we compute the distance of its first few again,
# each pair alone: so the result does not depend on how the bank is cut into segments or on what else is searched.
_CANDIDATES = 4
_CANDIDATES_WITH_EXCLUSIONS = 12
_FEW_QUERIES = 16

# Where a search looks: in given lists (m, p) of each query, in so many lists nearest to it, or everywhere.
_Places = NDArray[np.int64] | int | None


class Segment:
    """Rows with their index. Never changed after construction: FAISS may be read from many threads, not mutated."""

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
        self._around = _list_neighbours(layout.grid) if layout.grid else None
        self._index: Any = _build_index(rows, layout, inverted)  # the stubs of FAISS do not know what its wrappers add

    def nearest(
        self, vectors: NDArray[np.float32], cells: NDArray[np.int32], excluded: AbstractSet[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Squared Euclidean distance (m,) and owner (m,) of each query's nearest row; infinite where there is none.

        Args:
            vectors: (m, d) queries.
            cells: (m,) the cell of each query.
            excluded: item ids whose rows do not count.
        """
        barred = self.rows.mark(excluded)
        if barred.all():
            return np.full(len(vectors), np.inf, dtype=np.float32), np.zeros(len(vectors), dtype=np.int32)
        count = _CANDIDATES_WITH_EXCLUSIONS if barred.any() else _CANDIDATES
        found = self._search(vectors, self._choose_places(cells, barred), count, None)
        distances, owners = self._rank(vectors, found, barred)
        # Rare: all candidates were excluded, or the lists hold nothing else. Then the selector, then every list.
        for choose in (self._choose_places, self._choose_all_places):
            lost = np.flatnonzero(np.isinf(distances))
            if lost.size:
                places = choose(cells[lost], barred)
                found = self._search(vectors[lost], places, _CANDIDATES, ~barred[self.rows.owners])
                distances[lost], owners[lost] = self._rank(vectors[lost], found, barred)
        return distances, owners

    def _search(
        self, vectors: NDArray[np.float32], places: _Places, count: int, allowed: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Row numbers (m, count) of the nearest rows as FAISS ranks them, -1 where there are fewer."""
        count = min(count, len(self.rows.owners))
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        chosen: dict[str, Any] = {}
        if bits is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(len(self.rows.owners), faiss.swig_ptr(bits))
        if places is not None:
            chosen["nprobe"] = places if isinstance(places, int) else places.shape[1]
        kind: Any = faiss.SearchParameters if places is None else faiss.SearchParametersIVF
        if isinstance(places, np.ndarray):
            return self._search_lists(vectors, count, places, kind(**chosen))
        with _alone_for_few(len(vectors)):
            found: NDArray[np.int64] = self._index.search(vectors, count, params=kind(**chosen))[1]
        return found

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
        owners = self.rows.owners[found]
        distances[(found < 0) | barred[owners]] = np.inf
        best = np.lexsort((owners, distances), axis=1)[:, :1]
        return np.take_along_axis(distances, best, axis=1)[:, 0], np.take_along_axis(owners, best, axis=1)[:, 0]

    def _choose_places(self, cells: NDArray[np.int32], barred: NDArray[np.bool_]) -> _Places:
        """Where the nearest row is. Of lists the more, the fewer rows in them count: so recall stays what it was."""
        if self._around is not None:
            return self._around[cells]
        if self.inverted is None:
            return None
        counted = len(barred) - int(np.count_nonzero(barred))
        return min(self.inverted.probes * len(barred) // counted, len(self.inverted.centroids))

    def _choose_all_places(self, cells: NDArray[np.int32], barred: NDArray[np.bool_]) -> _Places:  # noqa: ARG002
        if self._around is not None:
            return np.broadcast_to(np.arange(len(self._around), dtype=np.int64), (len(cells), len(self._around)))
        return None if self.inverted is None else len(self.inverted.centroids)


@contextmanager
def _alone_for_few(queries: int) -> Iterator[None]:
    """Few queries are answered by this thread alone: others wake too late, on a busy machine by many milliseconds."""
    threads = faiss.omp_get_max_threads()  # of this thread, as what follows
    if queries < _FEW_QUERIES:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _build_index(rows: Rows, layout: Layout, inverted: Inverted | None) -> faiss.Index | None:
    if layout.arrangement == "stack":
        return None
    if inverted is not None:
        return open_index(rows.vectors, inverted)
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
