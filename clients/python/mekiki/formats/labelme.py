"""LabelMe: a JSON file beside each picture, as labelme 5 writes it.

The format knows no splits: ours stand under a key of their own, which labelme keeps; else a folder's name tells.
Rectangles are two corners in pixels. A mask is a PNG inside its rectangle, base64. A rectangle and a mask of the same
object share a group. Or a mask is polygons, which people can edit there, without a rectangle.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.formats.files import ImageFiles, Written, encode_png, name_split
from mekiki.formats.guard import reading, take_label, take_number, take_path, take_size
from mekiki.formats.outlines import Outline, outline_mask, take_polygon
from mekiki.formats.picture import Mark, Picture
from mekiki.formats.runs import PIXEL_LIMIT
from mekiki.formats.shapes import Shape, join_shapes
from mekiki.formats.state import take_score, take_state
from mekiki.formats.told import SPLITS, Marks, Told
from mekiki.formats.tracing import trace_mask

NAME = "LabelMe file"
KEYS = frozenset({"shapes", "imagePath"})
VERSION = "5.4.1"  # of labelme, whose layout this is


def write_labelme(out: Path, pictures: Iterable[Picture], *, lossless: bool = False, polygons: bool = False) -> int:
    """Write pictures and their files into `out` and return how many; masks as PNG or as `polygons`.

    Raises:
        OSError: a file could not be written.
    """
    files = ImageFiles(lossless=lossless)
    out.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        written = files.write(out, picture)
        text = json.dumps(_describe(written, polygons=polygons), ensure_ascii=False, indent=1)
        (out / f"{written.stem}.json").write_text(text + "\n", encoding="utf-8")
    return files.count


def _describe(written: Written, *, polygons: bool) -> dict[str, Any]:
    picture = written.picture
    describe = _describe_outline if polygons else _describe_mark
    shapes = [shape for number, mark in enumerate(picture.marks, 1) for shape in describe(mark, number)]
    size = {"imageHeight": picture.height, "imageWidth": picture.width}
    told = {
        "version": VERSION,
        "split": name_split(picture.split, ""),
        "flags": dict.fromkeys(picture.labels, True),
        "shapes": shapes,
    }
    return told | {"imagePath": written.file, "imageData": None} | size


def _describe_outline(mark: Mark, number: int) -> Iterable[dict[str, Any]]:
    if mark.mask is None:
        yield from _describe_mark(mark, number)
        return
    box = mark.annotation.box
    traced = trace_mask(mark.mask)
    for polygon in traced:
        points = (polygon + np.array([box.x_min, box.y_min])).tolist()
        group = number if len(traced) > 1 else None
        yield _begin(mark, group) | {"points": points, "shape_type": "polygon", "mask": None}


def _begin(mark: Mark, group: int | None) -> dict[str, Any]:
    """What all shapes of an object have."""
    note = mark.annotation
    return {
        "label": note.label,
        "group_id": group,
        "description": "",
        "flags": {},
        "attributes": {"score": round(note.score, 6), "state": str(note.state)},
    }


def _describe_mark(mark: Mark, number: int) -> Iterable[dict[str, Any]]:
    box = mark.annotation.box
    told = _begin(mark, number if mark.mask is not None else None)
    yield told | {"points": [[box.x_min, box.y_min], [box.x_max, box.y_max]], "shape_type": "rectangle", "mask": None}
    if mark.mask is not None:  # its last corner is a pixel inside
        corners = [[box.x_min, box.y_min], [box.x_max - 1, box.y_max - 1]]
        png = base64.b64encode(encode_png(mark.mask.astype(np.uint8))).decode()
        yield told | {"points": corners, "shape_type": "mask", "mask": png}


def read_labelme(path: Path, root: Path, told: Mapping[str, Any], marks: Marks) -> None:
    """Reads the file of one picture."""
    place = PurePosixPath(path.relative_to(root).as_posix())
    with reading(path, NAME):
        image = take_path(told["imagePath"], str(place.parent).removeprefix("."))
        shapes = [shape for each in told["shapes"] for shape in _read_shape(each)]
        flags = tuple(take_label(name) for name, is_set in (told.get("flags") or {}).items() if is_set)
        words = (str(told.get("split", "")), *place.parts[:-1])
        split = next((SPLITS[word.lower()] for word in words if word.lower() in SPLITS), "")
        size = take_size(told, "imageWidth", "imageHeight")
        marks.add(image, Told(str(place), join_shapes(shapes), flags, split, *size, keeps_folders=True))


def _read_shape(told: Mapping[str, Any]) -> Iterable[Shape]:
    attributes = told.get("attributes") or {}
    how = (take_score(attributes), take_state(attributes))
    kind = told.get("shape_type") or "polygon"
    if kind not in ("rectangle", "polygon", "mask"):
        return
    what = (take_label(told["label"]), told.get("group_id"))
    points = [[take_number(x, "points") for x in point] for point in told["points"]]
    if kind == "polygon":
        yield Shape(*what, None, Outline((take_polygon(points),)), *how)
        return
    (first_x, first_y), (last_x, last_y) = points
    ends = (min(first_x, last_x), min(first_y, last_y), max(first_x, last_x), max(first_y, last_y))
    if kind == "rectangle":
        yield Shape(*what, ends, None, *how)
    else:
        yield Shape(*what, None, outline_mask(_read_mask(told["mask"]), int(ends[0]), int(ends[1])), *how)


def _read_mask(text: str) -> NDArray[np.bool_]:
    from PIL import Image  # noqa: PLC0415 -- only what reads images waits for Pillow

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise ValueError(f"a mask has at most {PIXEL_LIMIT} pixels, not {image.width} x {image.height}")
            return np.asarray(image.convert("L")) > 0
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"a mask is no PNG ({error})") from error
