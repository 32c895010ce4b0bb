"""The index of rows any of which may match any query: FAISS, flat or by lists."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from services.anomaly.engines.engine import Layout
from services.anomaly.inverted import Inverted, open_index
from services.anomaly.rows import Rows

_CANDIDATES = 4
_CANDIDATES_WITH_EXCLUSIONS = 12
_FEW_QUERIES = 16


class VectorIndex:
    """Rows with their FAISS index. Never changed after construction: many threads may read FAISS, none may mutate it.

    Args:
        rows: what is searched.
        layout: of the bank, "flat" or "cosine".
        inverted: how the rows are spread over lists; None: each is compared.
    """

    def __init__(self, rows: Rows, layout: Layout, inverted: Inverted | None) -> None:
        self._inverted = inverted
        self._is_inner = inverted is None and layout.arrangement == "cosine"
        self._index: Any = _build_index(rows, layout, inverted)  # the stubs of FAISS do not know what its wrappers add

    def find(
        self, vectors: NDArray[np.float32], barred: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and ranks (m, k) of the rows nearest to each query (m, d); a rank is infinite where there is none.

        Args:
            vectors: queries.
            barred: (rows,) which rows do not count.
        """
        chosen: dict[str, Any] = {}
        if self._inverted is not None:  # of lists the more, the fewer rows in them count: so recall stays what it was
            counted = len(barred) - int(np.count_nonzero(barred))
            chosen["nprobe"] = min(self._inverted.probes * len(barred) // counted, len(self._inverted.centroids))
        count = _CANDIDATES_WITH_EXCLUSIONS if barred.any() else _CANDIDATES
        found, ranks = self._search(vectors, count, chosen)
        ranks[barred[found]] = np.inf
        lost = np.flatnonzero(np.isinf(ranks).all(axis=1))  # all that was found is barred: others lie behind it
        if lost.size:
            found[lost, :_CANDIDATES], ranks[lost, :_CANDIDATES] = self.find_anywhere(vectors[lost], barred)
        return found, ranks

    def find_anywhere(
        self, vectors: NDArray[np.float32], barred: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same in every list, without the barred ones."""
        bits = np.packbits(~barred, bitorder="little")
        chosen: dict[str, Any] = {"sel": faiss.IDSelectorBitmap(len(barred), faiss.swig_ptr(bits))}
        if self._inverted is not None:
            chosen["nprobe"] = len(self._inverted.centroids)
        return self._search(vectors, _CANDIDATES, chosen)

    def _search(
        self, vectors: NDArray[np.float32], count: int, chosen: dict[str, Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        kind: Any = faiss.SearchParameters if self._inverted is None else faiss.SearchParametersIVF
        with _alone_for_few(len(vectors)):
            ranks, found = self._index.search(vectors, count, params=kind(**chosen))
        ranks = -ranks if self._is_inner else ranks
        ranks[found < 0] = np.inf
        return found, ranks


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


def _build_index(rows: Rows, layout: Layout, inverted: Inverted | None) -> faiss.Index:
    if inverted is not None:
        return open_index(rows.vectors, inverted)
    inner = layout.arrangement == "cosine"
    flat = faiss.IndexFlatIP(layout.dimension) if inner else faiss.IndexFlatL2(layout.dimension)
    flat.add(rows.vectors.astype(np.float32))
    return flat
