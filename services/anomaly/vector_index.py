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
        self._index: Any = _build_index(rows, layout, inverted)  # the stubs of FAISS do not know what its wrappers add

    def find(
        self,
        vectors: NDArray[np.float32],
        cells: NDArray[np.int32],  # noqa: ARG002 - any row may match
        barred: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """(m, k) numbers of the rows nearest to each query (m, d), -1 where there are fewer; also of barred ones."""
        chosen: dict[str, Any] = {}
        if self._inverted is not None:  # of lists the more, the fewer rows in them count: so recall stays what it was
            counted = len(barred) - int(np.count_nonzero(barred))
            chosen["nprobe"] = min(self._inverted.probes * len(barred) // counted, len(self._inverted.centroids))
        return self._search(vectors, _CANDIDATES_WITH_EXCLUSIONS if barred.any() else _CANDIDATES, chosen)

    def find_anywhere(self, vectors: NDArray[np.float32], barred: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The same in every list, without the barred ones (rows,)."""
        bits = np.packbits(~barred, bitorder="little")
        chosen: dict[str, Any] = {"sel": faiss.IDSelectorBitmap(len(barred), faiss.swig_ptr(bits))}
        if self._inverted is not None:
            chosen["nprobe"] = len(self._inverted.centroids)
        return self._search(vectors, _CANDIDATES, chosen)

    def _search(self, vectors: NDArray[np.float32], count: int, chosen: dict[str, Any]) -> NDArray[np.int64]:
        kind: Any = faiss.SearchParameters if self._inverted is None else faiss.SearchParametersIVF
        with _alone_for_few(len(vectors)):
            found: NDArray[np.int64] = self._index.search(vectors, count, params=kind(**chosen))[1]
        return found


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
