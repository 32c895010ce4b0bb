"""Folders of images: which layout they have, and what lies where."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mekiki import Annotation
from mekiki.cli.boxes import FOLDERS, Marks, read_marks
from mekiki.cli.plain import to_item_id

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
SPLITS = ("train", "validation", "val", "test")
MASKS = ("ground_truth", "masks")
"""A folder beside the splits with masks: <label>/<name>.png, or <label>/<name>_mask.png as in MVTec AD."""


_PLAIN = ("jpegimages", "images")  # where Pascal VOC's images lie: no label


@dataclass(frozen=True)
class ImageFile:
    """An image of a folder."""

    path: Path
    item_id: str
    """Its path below the folder."""

    split: str
    labels: tuple[str, ...]
    """The main one first."""

    mask: Path | None = None
    boxes: tuple[Annotation, ...] = ()


@dataclass(frozen=True)
class Folder:
    """What a folder holds."""

    files: tuple[ImageFile, ...]
    ignored: tuple[str, ...]
    """Folders beside the splits that were not looked into."""

    left_out: int = 0
    """Boxes that nobody can draw."""


def read_folder(folder: Path) -> Folder:
    """The images of a folder, by name.

    The layout is `train/<label>/...` and `test/<label>/...` where there is one of the folders train, validation, val,
    test; else `<label>/...`. Images that lie directly in a split or in the folder have no label. Beside the splits a
    folder ground_truth or masks may hold masks. With boxes, Pascal VOC's or COCO's (see `boxes`), images that lie in no
    folder of a label get the labels of their boxes, and the splits that those files name.

    Raises:
        ValueError: it is no folder, holds no images, or boxes that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    beneath = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    marks = read_marks(folder)
    splits = [path for path in beneath if path.name in SPLITS]
    masks = [path for path in beneath if splits and path.name in MASKS]
    notes = [path for path in beneath if path.name.lower() in FOLDERS]
    ignored = tuple(path.name for path in beneath if splits and path not in (*splits, *masks, *notes))
    plain = [path for path in beneath if marks.boxes and path.name.lower() in _PLAIN]
    roots = [(path, path.name) for path in splits] or [(path, "") for path in plain] or [(folder, "")]
    files = tuple(
        _mark(file, folder, marks) for root, split in roots for file in _read_split(folder, root, split, masks)
    )
    if not files:
        raise ValueError(f"{folder} holds no images; the layout is train/<label>, test/<label> or <label>")
    return Folder(files, ignored, marks.left_out)


def _read_split(folder: Path, root: Path, split: str, masks: Sequence[Path]) -> Iterator[ImageFile]:
    for path in _images_beneath(root):
        inside = path.relative_to(root).parts
        label = inside[0] if len(inside) > 1 else ""
        item_id = to_item_id(path.relative_to(folder).as_posix())
        labels = (to_item_id(label),) if label else ()
        yield ImageFile(path, item_id, split, labels, _find_mask(path.relative_to(root), masks))


def _mark(file: ImageFile, folder: Path, marks: Marks) -> ImageFile:
    """Adds an image's boxes, and what they tell of its labels and its split."""
    key = marks.find(PurePosixPath(file.path.relative_to(folder).as_posix()))
    if key is None:
        return file
    labels = () if key in marks.coco else file.labels  # its folders name splits
    split = file.split or marks.splits.get(key, "")
    return replace(file, boxes=tuple(marks.boxes[key]), labels=labels or marks.list_labels(key), split=split)


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
