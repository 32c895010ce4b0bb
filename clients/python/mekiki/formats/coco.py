"""COCO: one JSON file a split, with images, annotations and categories.

As Lin et al., "Microsoft COCO", 2014, and cocodataset.org, "Data format", have it. A box is [left, top, width, height],
not always whole. Masks are run lengths, packed as the COCO API packs them; where files have polygons, these are read.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.formats.files import ImageFiles, Written, name_split
from mekiki.formats.guard import reading, take_label, take_number, take_path, take_size
from mekiki.formats.jsonlines import JsonParts
from mekiki.formats.outlines import Outline, outline_mask, take_polygon
from mekiki.formats.picture import Mark, Picture, view
from mekiki.formats.runs import from_columns, pack_columns
from mekiki.formats.state import take_score, take_state
from mekiki.formats.told import SPLITS, Marks, Told, ToldBox

NAME = "COCO file"
KEYS = frozenset({"images", "annotations", "categories"})


def write_coco(out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
    """Write `images/<split>/` and `annotations/instances_<split>.json`, split "default" for none; return how many.

    Raises:
        OSError: a file could not be written.
    """
    files, numbers = ImageFiles(lossless=lossless), dict[str, int]()
    splits = defaultdict[str, _Split](_Split)
    for number, picture in enumerate(pictures, 1):
        split = name_split(picture.split, "default")
        splits[split].add(number, files.write(out / "images" / split, picture), numbers)
    categories = [{"id": number, "name": label, "supercategory": ""} for label, number in numbers.items()]
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    for split, told in (splits or {"default": _Split()}).items():
        parts = {"images": told.images, "annotations": told.annotations}
        path = out / "annotations" / f"instances_{split}.json"
        JsonParts({"info": {"description": "mekiki"}, "licenses": [], "categories": categories}, parts).write(path)
    return sum(len(told.images) for told in splits.values())


class _Split:
    """The lines of one file."""

    def __init__(self) -> None:
        self.images: list[Mapping[str, Any]] = []
        self.annotations: list[Mapping[str, Any]] = []

    def add(self, number: int, written: Written, numbers: dict[str, int]) -> None:
        picture = written.picture
        self.images.append({"id": number, "file_name": written.file, "width": picture.width, "height": picture.height})
        for mark in picture.marks:
            label = numbers.setdefault(mark.annotation.label, len(numbers) + 1)
            ids = {"id": len(self.annotations) + 1, "image_id": number, "category_id": label, "iscrowd": 0}
            self.annotations.append(ids | _describe(picture, mark))


def _describe(picture: Picture, mark: Mark) -> dict[str, Any]:
    note, box = mark.annotation, mark.annotation.box
    told: dict[str, Any] = {
        "bbox": [box.x_min, box.y_min, box.width, box.height],
        "area": box.width * box.height,
        "segmentation": [],
        "attributes": {"score": round(note.score, 6), "state": str(note.state)},
    }
    if mark.mask is not None:
        drawn = np.zeros((picture.height, picture.width), bool)
        view(drawn, mark)[...] = mark.mask
        told["segmentation"] = {"size": list(drawn.shape), "counts": pack_columns(drawn)}
        told["area"] = int(mark.mask.sum())
    return told


def read_coco(path: Path, name: str, folder: str, told: Mapping[str, Any], marks: Marks) -> None:
    """Reads a COCO file; `folder` is what its images' names begin in, "" where they may lie anywhere."""
    with reading(path, NAME):
        labels = {each["id"]: take_label(each["name"]) for each in told["categories"]}
        words = re.split("[^a-z]+", name.lower())  # "annotations/instances_train2017.json"
        split = next((SPLITS[word] for word in words if word in SPLITS), "")
        images = {image["id"]: image for image in told["images"]}
        if len(images) < len(told["images"]):
            raise ValueError("two images have the same id")
        boxes: dict[object, list[ToldBox]] = {}
        for each in told["annotations"]:
            if each.get("iscrowd"):
                marks.left_out += 1
                continue
            boxes.setdefault(each["image_id"], []).append(_read_box(each, labels[each["category_id"]]))
        for number, image in images.items():
            size = take_size(image, "width", "height")
            found = Told(name, tuple(boxes.get(number, ())), (), split, *size)
            marks.add(take_path(image["file_name"], folder), found)


def _read_box(told: Mapping[str, Any], label: str) -> ToldBox:
    attributes = told.get("attributes") or {}
    outline = _read_outline(told.get("segmentation"))
    if told.get("bbox"):
        left, top, width, height = (take_number(each, "bbox") for each in told["bbox"])
        ends = left, top, left + width, top + height
    elif outline is not None:
        ends = outline.bound()
    else:
        raise ValueError("an annotation has no bbox")
    return ToldBox(label, ends, outline=outline, score=take_score(attributes), state=take_state(attributes))


def _read_outline(drawn: object) -> Outline | None:
    match drawn:
        case {"counts": str() | list() as counts, "size": [int(height), int(width)]}:
            return outline_mask(from_columns(counts, width, height))
        case [_, *_]:
            return Outline(tuple(take_polygon(each) for each in drawn))
    return None
