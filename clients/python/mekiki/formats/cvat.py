"""CVAT for images 1.1: `annotations.xml` and the images in `images/` (docs.cvat.ai, "CVAT for image").

A box's ends are pixels, half open; a mask is run lengths row by row inside its box. A box and a mask of the same object
share a group.
"""

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from mekiki import AnnotationState
from mekiki.formats.files import ImageFiles, Written, name_split
from mekiki.formats.guard import reading, take_label, take_number, take_path, take_size
from mekiki.formats.outlines import Outline, outline_mask, take_polygon
from mekiki.formats.picture import Mark, Picture
from mekiki.formats.runs import PIXEL_LIMIT, from_rows, to_rows
from mekiki.formats.shapes import Shape, join_shapes
from mekiki.formats.state import take_score, take_state
from mekiki.formats.told import SPLITS, Marks, Told
from mekiki.formats.xml import add_texts, clean, to_bytes

NAME = "CVAT file"
_ENDS = ("xtl", "ytl", "xbr", "ybr")


def write_cvat(out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
    """Write pictures below `out` and return how many.

    Raises:
        OSError: a file could not be written.
    """
    files, labels = ImageFiles(lossless=lossless), dict[str, None]()
    root = ET.Element("annotations")
    add_texts(root, version="1.1")
    meta = ET.SubElement(root, "meta")
    images: list[ET.Element] = []
    for number, picture in enumerate(pictures):
        images.append(_describe(number, files.write(out / "images", picture)))
        labels |= dict.fromkeys((*picture.labels, *(mark.annotation.label for mark in picture.marks)))
    project = ET.SubElement(meta, "project")
    home, tasks = ET.SubElement(project, "labels"), ET.SubElement(project, "tasks")
    for subset in dict.fromkeys(image.attrib["subset"] for image in images):
        add_texts(ET.SubElement(tasks, "task"), subset=subset)
    for label in labels:
        _declare(home, label)
    root.extend(images)
    out.mkdir(parents=True, exist_ok=True)
    (out / "annotations.xml").write_bytes(to_bytes(root))
    return len(images)


def _declare(home: ET.Element, label: str) -> None:
    element = ET.SubElement(home, "label")
    add_texts(element, name=label)
    attributes = ET.SubElement(element, "attributes")
    for name, kind, values in (("score", "number", "0\n1\n0.01"), ("state", "select", "\n".join(AnnotationState))):
        told = {"name": name, "mutable": False, "input_type": kind, "default_value": "", "values": values}
        add_texts(ET.SubElement(attributes, "attribute"), **told)


def _describe(number: int, written: Written) -> ET.Element:
    picture = written.picture
    told = {"id": str(number), "name": written.file, "subset": name_split(picture.split, "default")}
    image = ET.Element("image", told | {"width": str(picture.width), "height": str(picture.height)})
    for label in picture.labels:
        ET.SubElement(image, "tag", label=clean(label), source="mekiki")
    for group, mark in enumerate(picture.marks, 1):
        _add_mark(image, mark, group)
    return image


def _add_mark(image: ET.Element, mark: Mark, group: int) -> None:
    note, box = mark.annotation, mark.annotation.box
    told = {"label": clean(note.label), "source": "mekiki", "occluded": "0", "z_order": "0"}
    told |= {"group_id": str(group)} if mark.mask is not None else {}
    ends = dict(zip(_ENDS, map(str, (box.x_min, box.y_min, box.x_max, box.y_max)), strict=True))
    shapes = [ET.SubElement(image, "box", told | ends)]
    if mark.mask is not None:
        place = {"left": box.x_min, "top": box.y_min, "width": box.width, "height": box.height}
        runs = {"rle": ", ".join(map(str, to_rows(mark.mask)))}
        shapes.append(ET.SubElement(image, "mask", told | {key: str(value) for key, value in place.items()} | runs))
    for shape in shapes:
        ET.SubElement(shape, "attribute", name="score").text = f"{note.score:.6g}"
        ET.SubElement(shape, "attribute", name="state").text = str(note.state)


def read_cvat(path: Path, name: str, root: ET.Element, marks: Marks) -> None:
    """Reads CVAT's XML; of tracks of videos nothing."""
    with reading(path, NAME):
        for image in root.iter("image"):
            shapes = [shape for element in image for shape in _read_shape(element)]
            tags = tuple(take_label(tag.get("label")) for tag in image.findall("tag"))
            split = SPLITS.get((image.get("subset") or "").lower(), "")
            size = take_size(image.attrib, "width", "height")
            marks.add(take_path(image.get("name") or ""), Told(name, join_shapes(shapes), tags, split, *size))


def _read_shape(element: ET.Element) -> Iterable[Shape]:
    if element.tag not in ("box", "polygon", "mask"):
        return
    attributes = {each.get("name"): (each.text or "").strip() for each in element.findall("attribute")}
    known = {name: text for name, text in attributes.items() if name in ("score", "state")}
    what = (take_label(element.get("label")), int(element.get("group_id") or 0))
    how = (take_score(known), take_state(known))
    if element.tag == "box":
        if take_number(element.get("rotation") or 0, "rotation"):
            raise ValueError("turned boxes are not supported")
        left, top, right, bottom = (take_number(element.get(end), end) for end in _ENDS)
        yield Shape(*what, (left, top, right, bottom), None, *how)
    elif element.tag == "polygon":
        points = [[take_number(x, "points") for x in pair.split(",")] for pair in element.get("points", "").split(";")]
        yield Shape(*what, None, Outline((take_polygon(points),)), *how)
    else:
        x, y, width, height = (int(element.get(side) or 0) for side in ("left", "top", "width", "height"))
        runs = [min(int(run), PIXEL_LIMIT + 1) for run in element.get("rle", "").split(",")]
        yield Shape(*what, None, outline_mask(from_rows(runs, width, height), x, y), *how)
