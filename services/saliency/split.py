"""Which images are held out for validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Split:
    """`by` is "group" or "image"; `held_out` is (n,) bool, true for validation."""

    by: str
    held_out: npt.NDArray[np.bool_]


def split_validation(classes: npt.NDArray[np.int64], groups: Sequence[str], share: float, seed: int) -> Split:
    """Hold out about `share` of every class, whole groups at a time where images have one.

    A split by image puts the same part, author or day on both sides and flatters the score. An image without a group
    stands for itself. Every class keeps at least one image to train on, so a class that lives in one group is not held
    out. Where groups leave nothing to hold out at all, the split falls back to images and `by` says so.

    `classes` is (n,) class numbers from 0, with two images or more of each. The same seed gives the same split.
    """
    by_image = np.arange(len(classes))
    if any(groups):
        units = _number_groups(groups)
        held_out = _hold_out(classes, units, share, seed)
        if held_out.any():
            return Split("group", held_out)
    return Split("image", _hold_out(classes, by_image, share, seed))


def _number_groups(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    keys = [("group", group) if group else ("image", str(index)) for index, group in enumerate(groups)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _hold_out(
    classes: npt.NDArray[np.int64], units: npt.NDArray[np.int64], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    counts = np.zeros((units.max() + 1, classes.max() + 1), dtype=np.int64)  # (units, classes)
    np.add.at(counts, (units, classes), 1)
    left = counts.sum(axis=0)
    need = np.maximum(1, np.rint(share * left).astype(np.int64))
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
