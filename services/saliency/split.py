"""Which images are held out for validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from services.saliency.look_alikes import COSINES, find_look_alikes, number_groups


@dataclass(frozen=True, eq=False)
class Split:
    """`held_out` is (n,) bool, true for validation; `units` (n,) numbers what was never torn apart."""

    by: str
    """"group", "look_alikes" or "image"."""
    held_out: npt.NDArray[np.bool_]
    units: npt.NDArray[np.int64]
    look_alike_cosine: float = 0.0
    """From where on images counted as look-alikes; 0 where the split is not by them."""


def split_validation(
    classes: npt.NDArray[np.int64], groups: Sequence[str], share: float, seed: int, embeddings: torch.Tensor | None
) -> Split:
    """Hold out about `share` of every class, whole groups at a time where images have one.

    A split by image puts the same part, author or day on both sides and flatters the score. An image without a group
    goes where those go that look like it, at the lowest of `COSINES` that leaves about that share of every class to
    hold out. Every class keeps at least one image to train on, so a class that lives in one group is not held out.
    Where there is nothing to hold out at all, the split falls back to images and `by` says so.

    `classes` is (n,) class numbers from 0, with two images or more of each; `embeddings` (n, d), or None to pass over
    look-alikes. The same seed gives the same split.
    """
    need = _count_needed(classes, share)
    if embeddings is not None and not all(groups):
        for cosine in COSINES:
            units = find_look_alikes(embeddings, groups, cosine)
            held_out = _hold_out(classes, units, share, seed)
            if _is_about(np.bincount(classes[held_out], minlength=len(need)), need):
                return Split("group" if any(groups) else "look_alikes", held_out, units, cosine)
    if any(groups):
        units = number_groups(groups)
        held_out = _hold_out(classes, units, share, seed)
        if held_out.any():
            return Split("group", held_out, units)
    units = np.arange(len(classes))
    return Split("image", _hold_out(classes, units, share, seed), units)


def _is_about(counts: npt.NDArray[np.int64], need: npt.NDArray[np.int64]) -> bool:
    """Whether of every class about as many are held out as should be: of one large heap, all or nothing would be."""
    return bool(np.all((2 * counts >= need) & (counts <= np.maximum(need + 1, 1.5 * need))))


def _count_needed(classes: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    return np.asarray(np.maximum(1, np.rint(share * np.bincount(classes))), dtype=np.int64)


def _hold_out(
    classes: npt.NDArray[np.int64], units: npt.NDArray[np.int64], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    counts = np.zeros((units.max() + 1, classes.max() + 1), dtype=np.int64)  # (units, classes)
    np.add.at(counts, (units, classes), 1)
    left = counts.sum(axis=0)
    need = _count_needed(classes, share)
    order = np.random.default_rng(seed).permutation(len(counts))
    chosen = _take_fitting(counts, order, need, left) + _take_smallest(counts, order, left)
    return np.isin(units, chosen)


def _take_fitting(
    counts: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    need: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
) -> list[int]:
    """Take units that bring more of what is needed than of what is not; lowers `need` and `left` in place."""
    chosen = []
    for unit in order:
        useful = np.minimum(np.maximum(need, 0), counts[unit]).sum()
        if 2 * useful > counts[unit].sum() and _leaves_enough(counts[unit], left):
            chosen.append(int(unit))
            need -= counts[unit]
            left -= counts[unit]
    return chosen


def _take_smallest(
    counts: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
) -> list[int]:
    """For each class with nothing held out yet, take the smallest unit that has it and can be spared."""
    chosen: list[int] = []
    total = counts.sum(axis=0)
    for label in range(counts.shape[1]):
        if left[label] < total[label]:
            continue
        holders = [unit for unit in order if counts[unit, label] and _leaves_enough(counts[unit], left)]
        if holders:
            unit = min(holders, key=lambda holder: int(counts[holder].sum()))
            chosen.append(int(unit))
            left -= counts[unit]
    return chosen


def _leaves_enough(unit: npt.NDArray[np.int64], left: npt.NDArray[np.int64]) -> bool:
    return bool(np.all((unit == 0) | (left - unit >= 1)))
