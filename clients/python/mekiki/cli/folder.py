"""Folders of images: which layout they have, and what lies where."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mekiki import Annotation
from mekiki.cli.plain import to_item_id
from mekiki.formats.outlines import Outline
from mekiki.formats.picture import list_labels, read_size
from mekiki.formats.reading import FOLDERS, read_marks
from mekiki.formats.told import Told

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
SPLITS = ("train", "validation", "val", "valid", "test")
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
    outlines: tuple[Outline, ...] = ()
    """Of all boxes with the main label, where each of them has one."""


@dataclass(frozen=True)
class Folder:
    """What a folder holds."""

    files: tuple[ImageFile, ...]
    ignored: tuple[str, ...]
    """Folders beside the splits that were not looked into."""

    left_out: int = 0
    """Boxes that nobody can draw: without an area, of crowds, or beyond their image."""

    resized: tuple[str, ...] = ()
    """Images that have another size than their annotations say; their boxes are left out."""


def read_folder(folder: Path) -> Folder:
    """The images of a folder, by name.

    The layout is `train/<label>/...` and `test/<label>/...` where there is one of the folders train, validation, val,
    valid, test; else `<label>/...`. Images that lie directly in a split or in the folder have no label. Beside the
    splits a folder ground_truth or masks may hold masks. With annotation files (see `mekiki.formats`), images that lie
    in no folder of a label get the labels of their boxes, and the splits that those files name.

    Raises:
        ValueError: it is no folder, holds no images, or annotations that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    beneath = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    marking = _Marking(folder)
    splits = [path for path in beneath if path.name in SPLITS]
    masks = [path for path in beneath if splits and path.name in MASKS]
    notes = [path for path in beneath if path.name.lower() in FOLDERS]
    ignored = tuple(path.name for path in beneath if splits and path not in (*splits, *masks, *notes))
    plain = [path for path in beneath if marking.marks.told and path.name.lower() in _PLAIN]
    roots = [(path, path.name) for path in splits] or [(path, "") for path in plain] or [(folder, "")]
    files = tuple(marking.mark(file) for root, split in roots for file in _read_split(folder, root, split, masks))
    if not files:
        raise ValueError(f"{folder} holds no images; the layout is train/<label>, test/<label> or <label>")
    return Folder(files, ignored, marking.marks.left_out, tuple(marking.resized))


class _Marking:
    """Brings images and what annotation files tell of them together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: dict[int, ImageFile] = {}
        self.marks = read_marks(folder)
        self.resized: list[str] = []

    def mark(self, file: ImageFile) -> ImageFile:
        """Adds an image's boxes, and what they tell of its labels and its split."""
        found = self.marks.find(PurePosixPath(file.path.relative_to(self._folder).as_posix()))
        if found is None:
            return file
        name, told = found
        other = self._taken.setdefault(id(told), file)
        if other is not file:
            raise ValueError(f"{told.file}: {name!r} may be {other.item_id} or {file.item_id}")
        drawn = self._draw(file, told)
        boxes = tuple(box for box, _ in drawn)
        labels = (file.labels if told.keeps_folders else ()) or told.labels or list_labels(boxes)
        split = file.split or told.split or self.marks.splits.get(file.path.stem, "")
        outlines = [outline for box, outline in drawn if box.label in labels[:1]]
        kept = tuple(outline for outline in outlines if outline is not None)
        kept = kept if len(kept) == len(outlines) else ()
        return replace(file, boxes=boxes, labels=labels, split=split, outlines=kept)

    def _draw(self, file: ImageFile, told: Told) -> list[tuple[Annotation, Outline | None]]:
        width, height = read_size(file.path) if told.boxes else (0, 0)
        if told.boxes and told.width and width and (told.width, told.height) != (width, height):
            self.resized.append(file.item_id)
            return []
        drawn = [(each.draw(width, height), each.outline) for each in told.boxes]
        self.marks.left_out += sum(box is None for box, _ in drawn)
        return [(box, outline) for box, outline in drawn if box is not None]


def _read_split(folder: Path, root: Path, split: str, masks: Sequence[Path]) -> Iterator[ImageFile]:
    for path in _images_beneath(root):
        inside = path.relative_to(root).parts
        label = inside[0] if len(inside) > 1 and inside[0].lower() not in _PLAIN else ""
        item_id = to_item_id(path.relative_to(folder).as_posix())
        labels = (to_item_id(label),) if label else ()
        split = "validation" if split == "valid" else split
        yield ImageFile(path, item_id, split, labels, _find_mask(path.relative_to(root), masks))


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
