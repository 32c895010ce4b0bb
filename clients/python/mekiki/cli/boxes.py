"""Boxes that come with a folder of images: Pascal VOC's XML, a file an image, and COCO's JSON, a file for many.

VOC boxes count pixels from 1 and include their last one (see `mekiki._voc`); COCO's are [left, top, width, height], not
always whole (Lin et al., "Microsoft COCO", 2014, and its format page). What nobody can draw, such as a box without an
area, is counted and left out.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree as ET

from mekiki import Annotation, AnnotationState, Box

FOLDERS = ("annotations", "annotation")
"""Names of folders with such files, in small letters."""

RawBox = tuple[str, float, float, float, float]  # label, left, top, right, bottom: half open, pixels

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass
class Marks:
    """What is known of images beside their pixels."""

    boxes: dict[str, list[Annotation]] = field(default_factory=dict)
    """By path or name with its ending (COCO), or by name without (VOC)."""

    splits: dict[str, str] = field(default_factory=dict)
    coco: set[str] = field(default_factory=set)
    """The keys that COCO files gave: their folders name splits, not labels."""

    left_out: int = 0
    """Boxes without an area, of crowds, or beyond their image."""

    def find(self, image: PurePosixPath) -> str | None:
        """The key of an image, given its path below the folder; None where nothing is known of it."""
        parts = image.parts
        names = ["/".join(parts[start:]) for start in range(len(parts))]
        return next((name for name in (*names, image.stem) if name in self.boxes), None)

    def list_labels(self, key: str) -> tuple[str, ...]:
        """The labels of an image's boxes, the most frequent first."""
        return tuple(label for label, _ in Counter(box.label for box in self.boxes[key]).most_common())


def read_marks(folder: Path) -> Marks:
    """Reads all annotation files of a folder.

    Raises:
        ValueError: one of them cannot be read; names it.
    """
    marks = Marks()
    homes = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in FOLDERS]
    for home in homes:
        for path in sorted(home.rglob("*.xml")):
            _read_voc(path, marks)
    for path in (path for home in (folder, *homes) for path in sorted(home.glob("*.json"))):
        _read_coco(path, marks)
    for path in sorted((folder / "ImageSets" / "Main").glob("*.txt")):
        if path.stem in _SPLITS:
            names = (line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
            marks.splits.update(dict.fromkeys(names, _SPLITS[path.stem]))
    return marks


def _read_voc(path: Path, marks: Marks) -> None:
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - the user's own file; Expat limits what entities grow to
        width, height = (int(root.findtext(f"size/{side}", "0")) for side in ("width", "height"))
        found = [_read_object(each) for each in root.iter("object")]
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"{path}: is no Pascal VOC annotation ({error})") from error
    marks.boxes[path.stem] = list(_draw(iter(found), width, height, marks))


def _read_object(element: ET.Element) -> RawBox:
    left, top, right, bottom = (float(_text(element, f"bndbox/{end}")) for end in ("xmin", "ymin", "xmax", "ymax"))
    return _text(element, "name"), left - 1, top - 1, right, bottom


def _read_coco(path: Path, marks: Marks) -> None:
    """Reads a COCO file; any other JSON file is passed over."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error})") from error
    if not isinstance(told, dict) or not {"images", "annotations", "categories"} <= told.keys():
        return
    try:
        _take_coco(path, told, marks)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: is no COCO file ({error!r})") from error


def _take_coco(path: Path, told: Mapping[str, Any], marks: Marks) -> None:
    labels = {each["id"]: str(each["name"]) for each in told["categories"]}
    split = next((name for word, name in _SPLITS.items() if word in path.stem.lower()), "")
    boxes: dict[object, list[RawBox]] = {}
    for each in told["annotations"]:
        if each.get("iscrowd"):
            marks.left_out += 1
            continue
        left, top, width, height = map(float, each["bbox"])
        box = (labels[each["category_id"]], left, top, left + width, top + height)
        boxes.setdefault(each["image_id"], []).append(box)
    for image in told["images"]:
        name = PurePosixPath(str(image["file_name"])).as_posix()
        size = int(image.get("width", 0)), int(image.get("height", 0))
        marks.boxes[name] = list(_draw(iter(boxes.get(image["id"], ())), *size, marks))
        marks.coco.add(name)
        marks.splits[name] = split


def _draw(boxes: Iterator[RawBox], width: int, height: int, marks: Marks) -> Iterator[Annotation]:
    """Half-open boxes of whole pixels inside an image of that size, where it is told."""
    for label, left, top, right, bottom in boxes:
        low = (max(0, math.floor(left)), max(0, math.floor(top)))
        high = (min(math.ceil(right), width or math.ceil(right)), min(math.ceil(bottom), height or math.ceil(bottom)))
        if low[0] >= high[0] or low[1] >= high[1]:
            marks.left_out += 1
        else:
            yield Annotation(Box(*low, *high), label, source="imported", state=AnnotationState.ACCEPTED)


def _text(element: ET.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object has no {path}")
    return text
