"""Datumaro: one JSON file a split, `annotations/<split>.json`, the images in `images/<split>/`.

As Datumaro 1 writes it (its documentation, "Formats", "Datumaro"). Boxes are [left, top, width, height]; a box and a
mask of the same object share a group.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.formats.files import ImageFiles, Written, name_split
from mekiki.formats.guard import reading, take_label, take_number, take_path
from mekiki.formats.jsonlines import JsonParts
from mekiki.formats.outlines import Outline, outline_mask, take_polygon
from mekiki.formats.picture import Mark, Picture, view
from mekiki.formats.runs import from_columns, pack_columns
from mekiki.formats.shapes import Shape, join_shapes
from mekiki.formats.state import take_score, take_state
from mekiki.formats.told import SPLITS, Marks, Told

NAME = "Datumaro file"
KEYS = frozenset({"items", "categories"})


def write_datumaro(out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
    """Write pictures below `out`, split "default" for none, and return how many.

    Raises:
        OSError: a file could not be written.
    """
    files, numbers = ImageFiles(lossless=lossless), dict[str, int]()
    splits = defaultdict[str, list[Mapping[str, Any]]](list)
    for picture in pictures:
        split = name_split(picture.split, "default")
        splits[split].append(_describe(files.write(out / "images" / split, picture), numbers))
    labels = [{"name": label, "parent": "", "attributes": []} for label in numbers]
    values = {
        "dm_format_version": "1.0",
        "media_type": 2,  # images
        "infos": {},
        "categories": {"label": {"labels": labels, "label_groups": [], "attributes": ["score", "state"]}},
    }
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    for split, items in (splits or {"default": []}).items():
        JsonParts(values, {"items": items}).write(out / "annotations" / f"{split}.json")
    return sum(map(len, splits.values()))


def _describe(written: Written, numbers: dict[str, int]) -> dict[str, Any]:
    picture = written.picture
    notes: list[dict[str, Any]] = []
    for label in picture.labels:
        number = numbers.setdefault(label, len(numbers))
        notes.append({"id": 0, "type": "label", "attributes": {}, "group": 0, "label_id": number})
    for group, mark in enumerate(picture.marks, 1):
        notes += _describe_mark(picture, mark, group, numbers.setdefault(mark.annotation.label, len(numbers)))
    size = [picture.height, picture.width]
    return {"id": written.stem, "annotations": notes, "image": {"path": written.file, "size": size}}


def _describe_mark(picture: Picture, mark: Mark, group: int, label: int) -> list[dict[str, Any]]:
    note, box = mark.annotation, mark.annotation.box
    attributes = {"score": round(note.score, 6), "state": str(note.state)}
    told = {"id": group, "attributes": attributes, "group": group, "label_id": label, "z_order": 0}
    shapes = [told | {"type": "bbox", "bbox": [box.x_min, box.y_min, box.width, box.height]}]
    if mark.mask is not None:
        drawn = np.zeros((picture.height, picture.width), bool)
        view(drawn, mark)[...] = mark.mask
        rle = {"counts": pack_columns(drawn), "size": list(drawn.shape)}
        shapes.append(told | {"type": "mask", "rle": rle})
    return shapes


def read_datumaro(path: Path, name: str, told: Mapping[str, Any], marks: Marks) -> None:
    """Reads a Datumaro file, whose name is the split's."""
    with reading(path, NAME):
        labels = [take_label(each["name"]) for each in told["categories"].get("label", {}).get("labels", ())]
        split = SPLITS.get(path.stem.lower(), "")
        for item in told["items"]:
            image = item.get("image") or {}
            size = image.get("size") or (0, 0)
            height, width = (int(take_number(side, "size")) for side in size)
            notes = item["annotations"]
            shapes = [shape for note in notes for shape in _read_shape(note, labels)]
            wholes = tuple(labels[note["label_id"]] for note in notes if note["type"] == "label")
            found = Told(name, join_shapes(shapes), wholes, split, max(0, width), max(0, height))
            marks.add(take_path(image.get("path") or item["id"]), found)


def _read_shape(note: Mapping[str, Any], labels: list[str]) -> Iterable[Shape]:
    attributes = note.get("attributes") or {}
    what = (labels[note["label_id"]] if note["type"] in ("bbox", "mask", "polygon") else "", note.get("group") or 0)
    how = (take_score(attributes), take_state(attributes))
    match note["type"]:
        case "bbox":
            left, top, width, height = (take_number(each, "bbox") for each in note["bbox"])
            yield Shape(*what, (left, top, left + width, top + height), None, *how)
        case "polygon":
            yield Shape(*what, None, Outline((take_polygon(note["points"]),)), *how)
        case "mask":
            height, width = (int(take_number(side, "size")) for side in note["rle"]["size"])
            yield Shape(*what, None, outline_mask(from_columns(note["rle"]["counts"], width, height)), *how)
