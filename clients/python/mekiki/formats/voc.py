"""Pascal VOC: an XML a picture, and `trainval.txt`, the input of common detector trainers.

The layout is that of the VOC2012 development kit (Everingham and Winn, section 4): `Annotations`, `JPEGImages`,
`ImageSets/Main`. Its boxes count pixels from 1 and include their last one.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from mekiki.formats.files import ImageFiles, Written, name_split
from mekiki.formats.guard import read_text, reading, take_label, take_number, take_size
from mekiki.formats.picture import Picture
from mekiki.formats.told import SPLITS, Marks, Told, ToldBox
from mekiki.formats.xml import add_texts, to_bytes

NAME = "Pascal VOC annotation"
SETS = Path("ImageSets/Main")
_ENDS = ("xmin", "ymin", "xmax", "ymax")


def write_voc(out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
    """Write pictures below `out` and return how many; `trainval.txt` names all but those of split test.

    Raises:
        OSError: a file could not be written.
    """
    for folder in ("Annotations", "JPEGImages", SETS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    files, sets, labels = ImageFiles(lossless=lossless), defaultdict[str, list[str]](list), dict[str, None]()
    for picture in pictures:
        written = files.write(out / "JPEGImages", picture)
        (out / "Annotations" / f"{written.stem}.xml").write_bytes(to_bytes(_describe(written)))
        labels |= dict.fromkeys(mark.annotation.label for mark in picture.marks)
        split = name_split(picture.split, "")
        for name in {split, "" if split == "test" else "trainval"} - {""}:
            sets[name].append(written.stem)
    for name in {"trainval", *sets}:
        (out / SETS / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in sets[name]), encoding="utf-8")
    # Tools that know no other labels than those of the challenge look here: name:colour:parts:actions.
    lines = [re.sub(r"[:\s]+", " ", label) + ":::\n" for label in labels]
    (out / "labelmap.txt").write_text("".join(lines), encoding="utf-8")
    return files.count


def _describe(written: Written) -> ET.Element:
    picture = written.picture
    root = ET.Element("annotation")
    add_texts(root, folder="JPEGImages", filename=written.file)
    add_texts(ET.SubElement(root, "source"), database="mekiki")
    depth = picture.pixels.shape[2] if picture.pixels.ndim == 3 else 1
    add_texts(ET.SubElement(root, "size"), width=picture.width, height=picture.height, depth=depth)
    add_texts(root, segmented=0)
    for mark in picture.marks:
        item, box = ET.SubElement(root, "object"), mark.annotation.box
        add_texts(item, name=mark.annotation.label, pose="Unspecified", truncated=0, difficult=0)
        ends = ET.SubElement(item, "bndbox")
        add_texts(ends, xmin=box.x_min + 1, ymin=box.y_min + 1, xmax=box.x_max, ymax=box.y_max)
    return root


def read_voc(path: Path, name: str, root: ET.Element, marks: Marks) -> None:
    """Reads an XML file, known as `name` to people; the image is the one of the same name."""
    with reading(path, NAME):
        size = {side: root.findtext(f"size/{side}") or 0 for side in ("width", "height")}
        width, height = take_size(size, "width", "height")
        boxes = tuple(_read_object(each) for each in root.iter("object"))
        marks.add(path.stem, Told(name, boxes, width=width, height=height, keeps_folders=True))


def _read_object(element: ET.Element) -> ToldBox:
    left, top, right, bottom = (take_number(_find(element, f"bndbox/{end}"), end) for end in _ENDS)
    return ToldBox(take_label(_find(element, "name")), (left - 1, top - 1, right, bottom))


def _find(element: ET.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object has no {path}")
    return text


def read_sets(root: Path, marks: Marks) -> None:
    """Reads which pictures are of which split."""
    for path in sorted((root / SETS).glob("*.txt")):
        split = SPLITS.get(path.stem.lower())
        if split:
            with reading(path, "list of pictures"):
                lines = read_text(path, root).splitlines()
                marks.splits.update(dict.fromkeys((line.split()[0] for line in lines if line.strip()), split))
