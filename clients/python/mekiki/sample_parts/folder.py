"""Folders of sample parts: pictures where `make demo` looks for them, the truth beside them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki.sample_parts.defect import DEFECTS
from mekiki.sample_parts.part import PARTS, Part
from mekiki.sample_parts.picture import Picture, render_picture
from mekiki.sample_parts.scene import draw_handheld, draw_station

KINDS = tuple(part.name for part in PARTS)
EMPTY = "empty"  # the label of a bare table
CIRCUMSTANCES, LABELLED = 9, 100  # numbers of random streams, apart from those that render_picture draws

Progress = Callable[[int, int], None]  # pictures done, pictures in all
Box = tuple[int, int, int, int]  # left, top, right, bottom: half open, pixels


def render_parts(
    out: Path,
    count: int = 100,
    seed: int = 0,
    kinds: Sequence[str] = ("screw",),
    size: int = 512,
    on_progress: Progress | None = None,
) -> None:
    """Render `count` pictures of each kind of part as an inspection station sees them, good and defective.

    Of five pictures three go to `train/good`, one to `test/good` and one to `test/<defect>`, the defects in turn. True
    defect masks lie in `masks/<defect>`, outlines of the whole part in `part_masks/`, boxes in `boxes.json`. Several
    kinds get a folder each. A picture depends on the seed, its kind, its number and the size, not on `count`.

    Args:
        out: folder to write to; made when it is not there.
        count: pictures per kind, at least 1.
        seed: same seed, same bytes; 0 or more.
        kinds: any of "screw", "nut", "washer".
        size: side of the square pictures, pixels, 64 or more.
        on_progress: called after every picture.

    Raises:
        ValueError: count, seed, size or a kind is out of range.
    """
    _check(count, seed, size)
    parts = [_find_part(kind) for kind in kinds]
    for number, part in enumerate(parts):
        folder = Folder(out / part.name if len(parts) > 1 else out)
        for index in range(count):
            place, defect = _place(index)
            folder.add(place, index, render_station(part, defect, seed, index, size), part.name, defect)
            if on_progress:
                on_progress(number * count + index + 1, len(parts) * count)
        folder.close()


def render_kinds(
    out: Path, count: int = 120, seed: int = 0, size: int = 512, on_progress: Progress | None = None
) -> None:
    """Render single parts lying anywhere, one class a folder: `images/<screw|nut|washer|empty>/`, in turn.

    Outlines lie in `part_masks/<class>`, true boxes in `boxes.json`; the arguments are those of `render_parts`.

    Raises:
        ValueError: count, seed or size is out of range.
    """
    _check(count, seed, size)
    folder = Folder(out)
    choices: tuple[Part | None, ...] = (*PARTS, None)
    for index in range(count):
        part = choices[index % len(choices)]
        label = part.name if part else EMPTY
        scene = draw_handheld(np.random.default_rng((seed, LABELLED, index, CIRCUMSTANCES)))
        picture = render_picture(part, "", scene, size, (seed, LABELLED, index))
        folder.add(f"images/{label}", index, picture, label, "")
        if on_progress:
            on_progress(index + 1, count)
    folder.close()


def render_station(part: Part, defect: str, seed: int, index: int, size: int) -> Picture:
    """Return picture number `index` of a part at the inspection station; an empty defect gives the faultless twin."""
    stream = (seed, PARTS.index(part), index)
    scene = draw_station(np.random.default_rng((*stream, CIRCUMSTANCES)), bright=part.bright)
    return render_picture(part, defect, scene, size, stream)


@dataclass
class Folder:
    """A folder being filled; `close` writes the boxes."""

    root: Path
    boxes: dict[str, dict[str, object]] = field(default_factory=dict)

    def add(self, place: str, index: int, picture: Picture, label: str, defect: str) -> None:
        """Write a picture to `place` and its truth beside it."""
        name = f"{index:04d}.png"
        _write(self.root / place / name, picture.pixels[..., ::-1])
        if label != EMPTY:
            _write(self.root / "part_masks" / place.removeprefix("images/") / name, _as_mask(picture.part))
        if defect:
            _write(self.root / "masks" / defect / name, _as_mask(picture.spoilt))
        self.boxes[f"{place}/{name}"] = {
            "label": label,
            "box": bound(picture.part),
            "defect": defect or None,
            "defect_box": bound(picture.spoilt),
        }

    def close(self) -> None:
        """Write `boxes.json`."""
        truth = {"boxes": "left, top, right, bottom in pixels, half open", "images": self.boxes}
        (self.root / "boxes.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def bound(mask: NDArray[np.bool_]) -> Box | None:
    """Return the tight half-open box of a mask, None when it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _place(index: int) -> tuple[str, str]:
    """Return the folder and the defect of picture number `index`: three to train, one good, one defective."""
    turn = index % 5
    if turn < 3:
        return "train/good", ""
    if turn == 3:
        return "test/good", ""
    defect = DEFECTS[index // 5 % len(DEFECTS)]
    return f"test/{defect}", defect


def _find_part(kind: str) -> Part:
    for part in PARTS:
        if part.name == kind:
            return part
    raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")


def _check(count: int, seed: int, size: int) -> None:
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("size", size, 64)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def _as_mask(where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(where, 255, 0).astype(np.uint8)


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise OSError(f"could not encode {path.name}")
    path.write_bytes(encoded.tobytes())
