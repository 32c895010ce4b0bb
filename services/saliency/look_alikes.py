"""Which images are nearly the same, so that they can be kept on one side of a split."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

COSINES = (0.8, 0.85, 0.9, 0.95, 0.98, 0.999)
"""Where embeddings without their mean are that near, images count as look-alikes. Far above .8 lie a photo stored once
more or in another light (.9 to 1), under it most that only show the same kind. Of a set whose images are all alike even
so, the higher ones are tried, until there is something to hold out."""

_ROWS, _COLUMNS = 512, 8192  # cosines at once: 16 MB, however many images there are

Integers = npt.NDArray[np.int64]


def find_look_alikes(embeddings: torch.Tensor, groups: Sequence[str], cosine: float) -> Integers:
    """Number the sets of images that belong together, (n,) int64.

    That are the connected components over pairs of one group, and over pairs with a cosine above `cosine` of which at
    least one image has no group: two groups that somebody told apart stay apart. `embeddings` is (n, d).
    """
    numbers = number_groups(groups)
    free = torch.tensor([not group for group in groups], device=embeddings.device)
    for row, neighbours in _list_pairs(_standardise(embeddings), free, cosine):
        together = np.unique(numbers[np.append(neighbours, row)])
        if len(together) > 1:
            numbers[np.isin(numbers, together)] = together[0]
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def number_groups(groups: Sequence[str]) -> Integers:
    """Number the groups, (n,) int64; an image without one stands for itself."""
    keys = [("group", group) if group else ("image", str(index)) for index, group in enumerate(groups)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _standardise(embeddings: torch.Tensor) -> torch.Tensor:
    """Take out what all images share, which would make any two of them alike."""
    return torch.nn.functional.normalize(embeddings.float() - embeddings.float().mean(0), dim=1)


def _list_pairs(points: torch.Tensor, free: torch.Tensor, cosine: float) -> Iterator[tuple[int, Integers]]:
    """For each row that has some, its neighbours behind it; block by block."""
    order = torch.arange(len(points), device=points.device)
    for top in range(0, len(points), _ROWS):
        for left in range(top, len(points), _COLUMNS):
            rows, columns = points[top : top + _ROWS], points[left : left + _COLUMNS]
            near = rows @ columns.T > cosine
            near &= free[top : top + _ROWS, None] | free[None, left : left + _COLUMNS]
            near &= order[left : left + _COLUMNS] > order[top : top + _ROWS, None]
            for row in torch.nonzero(near.any(1)).flatten().tolist():
                yield top + row, left + torch.nonzero(near[row]).flatten().cpu().numpy()
