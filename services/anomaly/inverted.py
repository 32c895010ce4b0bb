"""The index of a large segment: rows in lists around centroids, of which a search reads the few that are nearest.

An inverted file (Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", PAMI 2011, section 4.1)
over rows in half precision, as they are in the bank. What is kept is what was decided when the segment was written:
the centroids, the list of each row, and how many lists a search reads. The index itself is filled from that, so every
replica searches the same one.

Why not a graph (HNSW, Malkov and Yashunin 2018): of 200,000 patch vectors it took five times as long to build, to find
the nearest as often, and a million must be built anew whenever items were forgotten (docs/measurements.md).
"""

from dataclasses import dataclass

import faiss
import numpy as np
from faiss.contrib import ivf_tools
from numpy.typing import NDArray

from services.anomaly.rows import Rows

RECALL_GOAL = 0.99
_SAMPLE = 1024  # rows whose nearest is searched to measure recall: .99 is then known to .006 (two sigma)
_TRAINING_ROWS_PER_LIST = 64
_LEAST_ROWS_PER_LIST = 39  # fewer, and FAISS warns that centroids mean little
_ITERATIONS = 10  # of k-means; more moves nothing that recall shows
_BLOCK = 1 << 11  # rows that are worked on at a time: numpy lets nobody else run meanwhile
_CANDIDATES = 4
_SEED = 20261121


@dataclass(frozen=True)
class Inverted:
    """How the rows of a segment are spread over lists."""

    centroids: NDArray[np.float32]  # (k, d)
    lists: NDArray[np.int32]  # (n,) the list of each row
    probes: int  # lists that a search reads
    recall: float  # how often it then finds the nearest row, 0 to 1, as `invert` measured it


def invert(rows: Rows) -> Inverted:
    """Spread rows of at least two items over lists; reads as few of these as find the nearest row 99 times of 100.

    Recall is measured on rows of the segment itself, each compared with the rows of all other items, as if its own
    image had not been enrolled.
    """
    random = np.random.default_rng(_SEED)
    centroids = _train(rows.vectors, _count_lists(len(rows.vectors)), random)
    lists = _assign(rows.vectors, centroids)
    index = open_index(rows.vectors, Inverted(centroids, lists, 1, 0.0))
    sample = np.sort(random.choice(len(rows.vectors), min(_SAMPLE, len(rows.vectors)), replace=False))
    exact = _find_exactly(rows, sample)
    probes, recall = 1, _measure_recall(index, rows, sample, exact, 1)
    while recall < RECALL_GOAL and probes < len(centroids):
        probes *= 2
        recall = _measure_recall(index, rows, sample, exact, probes)
    return Inverted(centroids, lists, probes, recall)


def open_index(vectors: NDArray[np.float16], inverted: Inverted) -> faiss.IndexIVFScalarQuantizer:
    """The index over vectors (n, d), row by row in their lists; the codes are the vectors, bit for bit."""
    count, dimension = inverted.centroids.shape
    quantizer = faiss.IndexFlatL2(dimension)
    quantizer.add(inverted.centroids)
    kind, metric, by_residual = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2, False
    index = faiss.IndexIVFScalarQuantizer(quantizer, dimension, count, kind, metric, by_residual)
    index.is_trained = True
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        lists = inverted.lists[block].astype(np.int64)
        ivf_tools.add_preassigned(index, vectors[block].astype(np.float32), lists)  # type: ignore[no-untyped-call]
    return index


def _count_lists(rows: int) -> int:
    """About twice the root, a power of two: then the lists that are read cost about as much as choosing them."""
    wanted = min(2 * rows**0.5, rows / _LEAST_ROWS_PER_LIST)
    return 1 << max(0, int(np.log2(max(wanted, 1))))


def _train(vectors: NDArray[np.float16], count: int, random: np.random.Generator) -> NDArray[np.float32]:
    taken = min(len(vectors), _TRAINING_ROWS_PER_LIST * count)
    sample = vectors[np.sort(random.choice(len(vectors), taken, replace=False))].astype(np.float32)
    means = faiss.Kmeans(vectors.shape[1], count, niter=_ITERATIONS, seed=_SEED)
    means.train(sample)
    return np.asarray(means.centroids, dtype=np.float32)


def _assign(vectors: NDArray[np.float16], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    quantizer = faiss.IndexFlatL2(centroids.shape[1])
    quantizer.add(centroids)
    blocks = (vectors[start : start + _BLOCK].astype(np.float32) for start in range(0, len(vectors), _BLOCK))
    found = [quantizer.search(block, 1)[1][:, 0] for block in blocks]
    return np.concatenate(found).astype(np.int32)


def _find_exactly(rows: Rows, sample: NDArray[np.int64]) -> NDArray[np.float32]:
    """(m,) squared distance of each row of the sample to the nearest row of another item."""
    queries, owners = rows.vectors[sample].astype(np.float32), rows.owners[sample]
    nearest = np.full(len(sample), np.inf, dtype=np.float32)
    for start in range(0, len(rows.vectors), _BLOCK):
        block = rows.vectors[start : start + _BLOCK].astype(np.float32)
        ranks = np.einsum("nd,nd->n", block, block) - 2 * (queries @ block.T)  # without the query's own square
        ranks[owners[:, None] == rows.owners[start : start + _BLOCK]] = np.inf
        best = ranks.argmin(axis=1)
        found = _measure_squared(queries, block[best])
        found[np.isinf(ranks[np.arange(len(sample)), best])] = np.inf
        np.minimum(nearest, found, out=nearest)
    return nearest


def _measure_recall(
    index: faiss.IndexIVFScalarQuantizer,
    rows: Rows,
    sample: NDArray[np.int64],
    exact: NDArray[np.float32],
    probes: int,
) -> float:
    """Share of the sample for which a search finds a row as near as the nearest of another item."""
    hits = 0
    for row, wanted in zip(sample, exact, strict=True):
        query = rows.vectors[row : row + 1].astype(np.float32)
        own = np.searchsorted(rows.owners, [rows.owners[row], rows.owners[row] + 1])
        others = faiss.IDSelectorNot(faiss.IDSelectorRange(int(own[0]), int(own[1])))
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=others)  # type: ignore[call-arg] # the stubs do not know
        found = index.search(query, _CANDIDATES, params=parameters)[1][0]
        distances = _measure_squared(query, rows.vectors[found[found >= 0]].astype(np.float32))
        hits += bool((distances <= wanted).any())
    return hits / len(sample)


def _measure_squared(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    difference = some - others
    return np.asarray((difference * difference).sum(axis=1), dtype=np.float32)
