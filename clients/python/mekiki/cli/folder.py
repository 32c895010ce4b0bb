"""Folders of images: which layout they have, and what lies where."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mekiki.cli.plain import to_item_id

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
SPLITS = ("train", "validation", "val", "test")
MASKS = ("ground_truth", "masks")
"""A folder beside the splits with masks: <label>/<name>.png, or <label>/<name>_mask.png as in MVTec AD."""


@dataclass(frozen=True)
class ImageFile:
    """An image of a folder."""

    path: Path
    item_id: str
    """Its path below the folder."""

    split: str
    label: str
    mask: Path | None = None


@dataclass(frozen=True)
class Folder:
    """What a folder holds."""

    files: tuple[ImageFile, ...]
    ignored: tuple[str, ...]
    """Folders beside the splits that were not looked into."""


def read_folder(folder: Path) -> Folder:
    """The images of a folder, by name.

    The layout is `train/<label>/...` and `test/<label>/...` where there is one of the folders train, validation, val,
    test; else `<label>/...`. Images that lie directly in a split or in the folder have no label. Beside the splits a
    folder ground_truth or masks may hold masks.

    Raises:
        ValueError: it is no folder, or holds no images.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    beneath = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    splits = [path for path in beneath if path.name in SPLITS]
    masks = [path for path in beneath if splits and path.name in MASKS]
    ignored = tuple(path.name for path in beneath if splits and path not in (*splits, *masks))
    roots = [(path, path.name) for path in splits] or [(folder, "")]
    files = tuple(file for root, split in roots for file in _read_split(folder, root, split, masks))
    if not files:
        raise ValueError(f"{folder} holds no images; the layout is train/<label>, test/<label> or <label>")
    return Folder(files, ignored)


def _read_split(folder: Path, root: Path, split: str, masks: Sequence[Path]) -> Iterator[ImageFile]:
    for path in _images_beneath(root):
        inside = path.relative_to(root).parts
        label = inside[0] if len(inside) > 1 else ""
        item_id = to_item_id(path.relative_to(folder).as_posix())
        yield ImageFile(path, item_id, split, to_item_id(label), _find_mask(path.relative_to(root), masks))


def _find_mask(image: Path, masks: Sequence[Path]) -> Path | None:
    places = (folder / image.parent / f"{image.stem}{end}.png" for folder in masks for end in ("_mask", ""))
    return next((place for place in places if place.is_file()), None)


def list_images(places: Sequence[Path]) -> tuple[Path, ...]:
    """The image files that are meant: files as they are, folders with all images beneath them.

    Raises:
        ValueError: there is nothing at a place, or no image in any.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise ValueError(f"{place} does not exist")
        found += _images_beneath(place) if place.is_dir() else [place]
    if not found:
        raise ValueError("no images there")
    return tuple(found)


def _images_beneath(root: Path) -> list[Path]:
    files = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts))
