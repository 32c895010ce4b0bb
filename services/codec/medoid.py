"""Chooses of many images the one that is most like all others, to bring them to."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.codec.items import Pixels
from services.codec.order import describe
from services.codec.prepare import Placer

_LOOKED_AT = 32
"""Most images that are compared."""
_STARTS = 3
_ENOUGH = 0.9
"""Share of the images that must align to a provisional reference; else another one is tried."""

T = TypeVar("T")


def choose_medoid(
    names: Sequence[str], read: Callable[[str], Pixels | None], open_placer: Callable[[Pixels], Placer | None]
) -> str | None:
    """Returns the name of the image with the least sum of distances to the others, once they are aligned.

    Images are aligned to a provisional reference; where few can be, it was a bad one and another is tried.

    Args:
        names: of the images; at most 32 of them, evenly spread, are looked at.
        read: returns an image's pixels; None where they are damaged.
        open_placer: returns what brings images to a reference; None where that has no part.

    Returns:
        None where no image can be a reference.
    """
    looked_at = spread(names, _LOOKED_AT)
    best: dict[str, NDArray[np.float32]] = {}
    starts = 0
    for start in looked_at:
        pixels = read(start)
        placer = None if pixels is None else open_placer(pixels)
        if placer is None:
            continue
        described = dict(_describe_aligned(looked_at, read, placer))
        best = max(best, described, key=len)
        starts += 1
        if starts == _STARTS or len(best) >= _ENOUGH * len(looked_at):
            break
    if not best:
        return None
    points = np.stack(list(best.values()))
    sums = [float(np.linalg.norm(points - point, axis=1).sum()) for point in points]
    return list(best)[int(np.argmin(sums))]


def spread(values: Sequence[T], count: int) -> list[T]:
    """Returns at most `count` of the values, evenly spread, the first among them."""
    if len(values) <= count:
        return list(values)
    return [values[len(values) * number // count] for number in range(count)]


def _describe_aligned(
    names: Sequence[str], read: Callable[[str], Pixels | None], placer: Placer
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name in names:
        pixels = read(name)
        if pixels is None:
            continue
        image = placer.convert(pixels)
        found = placer.place(image).alignment
        if found.aligned:
            small = describe(image, found.affine, placer.canvas_width, placer.canvas_height)
            yield name, small.astype(np.float32)
