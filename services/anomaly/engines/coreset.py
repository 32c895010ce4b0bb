"""A few vectors that stand for many: greedy k-center after a random projection."""

import numpy as np
from numpy.typing import NDArray

_PROJECTED_DIMENSION = 48
_SEED = 20260521


def choose_spread(vectors: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of `count` of the `vectors` (n, d), such that every vector is near a chosen one.

    Gonzalez 1985 (the greedy farthest point, at most twice the optimal radius), as in PatchCore (Roth et al., CVPR
    2022, section 3.2), on vectors projected by a fixed Gaussian matrix (Johnson and Lindenstrauss 1984). Memory is
    O(n): one distance per vector. The same vectors give the same choice, whatever else is enrolled.
    """
    if count >= len(vectors):
        return np.arange(len(vectors), dtype=np.int64)
    points = _project(vectors)
    lengths = np.einsum("nd,nd->n", points, points)
    chosen = np.empty(count, dtype=np.int64)
    chosen[0] = _measure(points, lengths, points.mean(axis=0)).argmax()
    nearest = np.full(len(points), np.inf, dtype=np.float32)
    for step in range(1, count):
        np.minimum(nearest, _measure(points, lengths, points[chosen[step - 1]]), out=nearest)
        chosen[step] = nearest.argmax()
    return np.sort(chosen)


def _project(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if vectors.shape[1] <= _PROJECTED_DIMENSION:
        return vectors
    matrix = np.random.default_rng(_SEED).standard_normal((vectors.shape[1], _PROJECTED_DIMENSION), dtype=np.float32)
    return vectors @ matrix


def _measure(
    points: NDArray[np.float32], lengths: NDArray[np.float32], centre: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Squared distances (n,) to `centre` (d,), from squared lengths and one product: half of the work."""
    return np.asarray(lengths - 2 * np.einsum("nd,d->n", points, centre) + centre @ centre, dtype=np.float32)
