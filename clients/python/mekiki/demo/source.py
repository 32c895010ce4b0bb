"""Where the images come from: a user's folder, or parts rendered for the occasion."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki.demo.results import GOOD
from mekiki.report.pictures import Box, Pixels
from mekiki.sample_parts import EMPTY, render_kinds, render_parts

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
LEAST_NORMALS = 8
LEAST_RENDERED = 15  # of which 9 are normal ones to learn from
SEED = 1
LAYOUT = "train/good, test/good and test/<defect>"

Progress = Callable[[int, int], None]  # done, in all


class BadFolder(ValueError):
    """The folder is not laid out as the demonstration needs it; the text says what is missing."""


@dataclass(frozen=True)
class Photo:
    """An image file with what its folder says of it."""

    item_id: str  # path below the folder
    path: Path
    label: str
    split: str
    truth: Path | None = None  # mask of its defect, or of the part that it shows


@dataclass(frozen=True)
class Source:
    """The images of one kind of part."""

    title: str
    train: tuple[Photo, ...]  # normal
    test: tuple[Photo, ...]

    @property
    def photos(self) -> tuple[Photo, ...]:
        """All of them."""
        return (*self.train, *self.test)


@dataclass(frozen=True)
class Labelled:
    """Images that carry a class label only, for the classifier and its boxes."""

    photos: tuple[Photo, ...]
    boxes: dict[str, Box]  # truth, by item, where it is known


def read_folder(folder: Path) -> Source:
    """Return the images of a folder in the layout `train/good`, `test/good`, `test/<defect>`.

    True defect masks are taken from `masks/<defect>/<same name>.png` where they are.

    Raises:
        BadFolder: the layout is another, or there are too few normal images.
    """
    if not folder.is_dir():
        raise BadFolder(f"{folder} is not a folder; it should hold {LAYOUT}")
    train = _list_photos(folder, "train", GOOD)
    if len(train) < LEAST_NORMALS:
        raise BadFolder(
            f"{folder / 'train' / GOOD} holds {len(train)} images; at least {LEAST_NORMALS} normal ones are needed "
            f"(the layout is {LAYOUT})"
        )
    labels = sorted(path.name for path in (folder / "test").glob("*") if path.is_dir())
    test = tuple(photo for label in labels for photo in _list_photos(folder, "test", label))
    if not test:
        raise BadFolder(f"{folder / 'test'} holds no images; the layout is {LAYOUT}")
    count = len(train) + len(test)
    return Source(f"{count:,} images from {folder.resolve().name}", train, test)


def render_source(folder: Path, count: int, on_progress: Progress) -> Source:
    """Render `count` sample screws into `folder` and return them.

    Raises:
        ValueError: `count` is too small to learn from.
    """
    if count < LEAST_RENDERED:
        raise ValueError(f"count must be at least {LEAST_RENDERED}, not {count}")
    render_parts(folder, count=count, seed=SEED, on_progress=on_progress)
    source = read_folder(folder)
    return Source(f"{count:,} sample screws", source.train, source.test)


def render_labelled(folder: Path, count: int, on_progress: Progress) -> Labelled:
    """Render `count` pictures of screws, nuts, washers and bare tables into `folder` and return them."""
    render_kinds(folder, count=count, seed=SEED, size=384, on_progress=on_progress)
    truth = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))["images"]
    photos = tuple(
        Photo(name, folder / name, entry["label"], "train", _outline_of(folder, name))
        for name, entry in sorted(truth.items())
    )
    return Labelled(photos, {name: _as_box(entry["box"]) for name, entry in truth.items() if entry["label"] != EMPTY})


def read_pixels(path: Path) -> Pixels:
    """Return an image file's pixels, grey or RGB, 8 bits.

    Raises:
        BadFolder: the file is no image.
    """
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_ANYCOLOR)
    if pixels is None:
        raise BadFolder(f"{path} is no image that can be read")
    return np.asarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels, dtype=np.uint8)


def read_truth(photo: Photo, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return where an image's defect or part is, None where nobody knows or the mask does not fit."""
    if photo.truth is None:
        return None
    mask = read_pixels(photo.truth)
    mask = mask if mask.ndim == 2 else mask[..., 0]
    return mask >= 128 if mask.shape == shape[:2] else None


def _list_photos(folder: Path, split: str, label: str) -> tuple[Photo, ...]:
    place = folder / split / label
    files = sorted(path for path in place.glob("*") if path.suffix.lower() in SUFFIXES)
    return tuple(
        Photo(f"{split}/{label}/{path.name}", path, label, split, _truth_of(folder, label, path)) for path in files
    )


def _truth_of(folder: Path, label: str, path: Path) -> Path | None:
    mask = folder / "masks" / label / f"{path.stem}.png"
    return mask if mask.is_file() else None


def _outline_of(folder: Path, name: str) -> Path | None:
    outline = folder / "part_masks" / name.removeprefix("images/")
    return outline if outline.is_file() else None


def _as_box(values: list[int]) -> Box:
    left, top, right, bottom = values
    return left, top, right, bottom
