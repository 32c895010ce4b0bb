"""CSV: a row a box, `annotations.csv`, the images in `images/`.

Written with the columns of `COLUMNS`; ends are pixels, half open. A row without a label stands for a picture without
boxes, one with a label and no ends for a label of the picture as a whole. Read are also the names that the columns have
in other tools, where the ends are taken as they are.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from mekiki.formats.files import ImageFiles, Written, name_split
from mekiki.formats.guard import read_text, reading, take_label, take_number, take_path, take_size
from mekiki.formats.picture import Picture
from mekiki.formats.state import take_score, take_state
from mekiki.formats.told import SPLITS, Marks, Told, ToldBox

NAME = "CSV of annotations"
COLUMNS = ("image", "width", "height", "split", "label", "x_min", "y_min", "x_max", "y_max", "score", "state")
_ALIASES = {"filename": "image", "file_name": "image", "image_path": "image", "path": "image"}
_ALIASES |= {"class": "label", "class_name": "label", "subset": "split"}
_ALIASES |= {f"{axis}{end}": f"{axis}_{end}" for axis in "xy" for end in ("min", "max")}
_ALIASES |= {"xtl": "x_min", "ytl": "y_min", "xbr": "x_max", "ybr": "y_max"}
_ENDS = ("x_min", "y_min", "x_max", "y_max")
_NEEDED = frozenset({"image", "label", *_ENDS})


def write_csv(out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
    """Write pictures below `out` and return how many.

    Raises:
        OSError: a file could not be written.
    """
    files = ImageFiles(lossless=lossless)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "annotations.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for picture in pictures:
            writer.writerows(_describe(files.write(out / "images", picture)))
    return files.count


def _describe(written: Written) -> list[tuple[object, ...]]:
    picture = written.picture
    image = (written.file, picture.width, picture.height, name_split(picture.split, ""))
    rows: list[tuple[object, ...]] = [(*image, label, "", "", "", "", "", "") for label in picture.labels]
    for mark in picture.marks:
        note, box = mark.annotation, mark.annotation.box
        ends = (box.x_min, box.y_min, box.x_max, box.y_max)
        rows.append((*image, note.label, *ends, f"{note.score:.6g}", str(note.state)))
    return rows or [(*image, "", "", "", "", "", "", "")]


def read_csv(path: Path, root: Path, folder: str, marks: Marks) -> None:
    """Reads a file with the columns that boxes need; any other CSV is passed over."""
    with reading(path, NAME):
        lines = io.StringIO(read_text(path, root), newline="")
        try:
            rows = csv.reader(lines, strict=True)
            names = [_ALIASES.get(name.strip().lower(), name.strip().lower()) for name in next(rows, [])]
            if not names or not set(names) >= _NEEDED:
                return
            _take(
                path.relative_to(root).as_posix(), folder, (dict(zip(names, row, strict=True)) for row in rows), marks
            )
        except csv.Error as error:
            raise ValueError(str(error)) from error


def _take(name: str, folder: str, rows: Iterable[Mapping[str, str]], marks: Marks) -> None:
    images: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        images.setdefault(take_path(row["image"], folder), []).append(row)
    for image, group in images.items():
        boxes = tuple(_read_box(row) for row in group if row["label"].strip() and row["x_min"].strip())
        labels = tuple(take_label(row["label"]) for row in group if row["label"].strip() and not row["x_min"].strip())
        split = SPLITS.get(group[0].get("split", "").strip().lower(), "")
        marks.add(image, Told(name, boxes, labels, split, *take_size(group[0], "width", "height")))


def _read_box(row: Mapping[str, str]) -> ToldBox:
    left, top, right, bottom = (take_number(row[end].strip(), end) for end in _ENDS)
    return ToldBox(take_label(row["label"]), (left, top, right, bottom), score=take_score(row), state=take_state(row))
