"""What a person drew of an image, as the page keeps and sends it: its size, then runs of pixels, row by row.

    64x48U130O12B9U2921      O: object, B: background, U: unknown

A map has one text, so that equal texts are equal maps; "" is an item without any.
"""

import re

import numpy as np
from numpy.typing import NDArray

from mekiki import Trimap

MOST_PIXELS = 1 << 28

_VALUES = {"B": Trimap.BACKGROUND, "O": Trimap.OBJECT, "U": Trimap.UNKNOWN}
_LETTERS = {value: letter for letter, value in _VALUES.items()}
_TEXT = re.compile(r"([1-9][0-9]{0,8})x([1-9][0-9]{0,8})((?:[BOU][1-9][0-9]{0,8})+)")
_RUN = re.compile(r"([BOU])([0-9]+)")


def write_drawn(values: NDArray[np.uint8]) -> str:
    """The text of a map, (h, w) of the values of `Trimap`."""
    height, width = values.shape
    flat = values.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    counts = np.diff(np.append(starts, flat.size)).tolist()
    runs = (f"{_LETTERS[value]}{count}" for value, count in zip(flat[starts].tolist(), counts, strict=True))
    return f"{width}x{height}{''.join(runs)}"


def read_drawn(text: str) -> NDArray[np.uint8]:
    """The map of a text, (h, w) of the values of `Trimap`.

    Raises:
        ValueError: it is no such text, its runs do not add up, or it has more than 2^28 pixels.
    """
    width, height = check_drawn(text)
    runs = [(_VALUES[letter], int(count)) for letter, count in _RUN.findall(text.partition("x")[2])]
    values, counts = zip(*runs, strict=True)
    return np.repeat(np.array(values, np.uint8), counts).reshape(height, width)


def check_drawn(text: str) -> tuple[int, int]:
    """The size of a map, (width, height); nothing of it is made. Raises as `read_drawn`."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError("must be a size and runs, such as 64x48U3000O72")
    width, height = int(found[1]), int(found[2])
    if width * height > MOST_PIXELS:
        raise ValueError(f"must have at most {MOST_PIXELS} pixels, has {width} x {height}")
    total = sum(int(count) for _, count in _RUN.findall(found[3]))
    if total != width * height:
        raise ValueError(f"must add up to {width * height} pixels, add up to {total}")
    return width, height
