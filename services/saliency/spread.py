"""A few vectors that stand for many."""

import torch

_PROJECTED_DIMENSION = 48
_SEED = 20260521


def choose_spread(vectors: torch.Tensor, count: int) -> torch.Tensor:
    """Indices (count,) of the `vectors` (n, d), such that every vector is near a chosen one; all where n is no more.

    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985: always the farthest point, at most twice
    the optimal radius; on vectors projected by a fixed Gaussian matrix (Johnson and Lindenstrauss, 1984). Memory is
    one distance a vector. The same vectors give the same choice.
    """
    n, dimension = vectors.shape
    if count >= n:
        return torch.arange(n)
    generator = torch.Generator().manual_seed(_SEED)
    matrix = torch.randn(dimension, _PROJECTED_DIMENSION, generator=generator).to(vectors)
    points = vectors @ matrix
    nearest = (points - points.mean(0)).square().sum(1)
    chosen = [int(nearest.argmax())]
    nearest = torch.full_like(nearest, torch.inf)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(int(nearest.argmax()))
    return torch.tensor(sorted(chosen))
