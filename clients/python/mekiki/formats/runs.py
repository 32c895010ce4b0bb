"""Masks as run lengths: row by row as CVAT has them, column by column as COCO and Datumaro have them.

COCO packs runs into a string, six bits a sign, each as its difference to the run two before it (`rleToString` of the
COCO API, maskApi.c).
"""

from mekiki._wire.runs import PIXEL_LIMIT, Mask, from_runs, to_runs

__all__ = ["PIXEL_LIMIT", "from_columns", "from_rows", "pack_columns", "to_rows"]


def to_rows(mask: Mask) -> list[int]:
    """Runs row by row."""
    return list(map(int, to_runs(mask.ravel())))


def from_rows(runs: list[int], width: int, height: int) -> Mask:
    """The mask, (height, width), of runs row by row; raises ValueError as `from_runs` does."""
    return from_runs(runs, width, height).reshape(height, width)


def pack_columns(mask: Mask) -> str:
    """COCO's string for a mask."""
    runs = to_runs(mask.ravel(order="F")).tolist()
    signs: list[str] = []
    for number, run in enumerate(runs):
        rest = run - runs[number - 2] if number > 2 else run
        more = True
        while more:
            five = rest & 31
            rest >>= 5
            more = rest != (-1 if five & 16 else 0)
            signs.append(chr((five | 32 if more else five) + 48))
    return "".join(signs)


def from_columns(runs: "str | list[int]", width: int, height: int) -> Mask:
    """The mask, (height, width), of COCO's runs, packed or plain.

    Raises:
        ValueError: they cannot be unpacked, or as `from_runs` does.
    """
    lengths = _unpack(runs) if isinstance(runs, str) else runs
    return from_runs(lengths, width, height).reshape(width, height).T


def _unpack(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for sign in text:
        bits = ord(sign) - 48
        if not 0 <= bits < 64 or shift > 35:
            raise ValueError(f"no run lengths: {text[:20]!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
