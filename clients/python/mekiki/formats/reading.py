"""Finds the annotation files of a folder, whatever format they have, and reads them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mekiki.formats import coco, datumaro, labelme
from mekiki.formats.coco import read_coco
from mekiki.formats.cvat import read_cvat
from mekiki.formats.datumaro import read_datumaro
from mekiki.formats.guard import parse_json, parse_xml, read_bytes, read_text, reading
from mekiki.formats.labelme import read_labelme
from mekiki.formats.table import read_csv
from mekiki.formats.told import Marks
from mekiki.formats.voc import read_sets, read_voc
from mekiki.formats.yolo import LISTS, read_classes, read_yolo

FOLDERS = ("annotations", "annotation", "labels", "imagesets")
"""Names of folders that hold annotation files and no images, in small letters."""

_SUFFIXES = (".xml", ".json", ".csv", ".txt", ".yaml", ".yml", ".names")

_OTHER_TASKS = ("captions_", "image_info_", "labels_", "panoptic_", "person_keypoints_", "stuff_")
"""What COCO itself is given out with beside the instances: the same images once more."""


def read_marks(folder: Path) -> Marks:
    """Reads all annotation files beneath a folder: Pascal VOC, YOLO, COCO, Datumaro, LabelMe, CVAT, CSV.

    A format is known by what a file holds. In a folder of `FOLDERS` and at the top whatever cannot be read is an error;
    elsewhere, among the images, such a file is passed over.

    Raises:
        ValueError: one of them cannot be read; names it and says why.
    """
    marks = Marks()
    paths = sorted(_list_files(folder))
    for path in paths:
        match path.suffix.lower():
            case ".xml":
                _read_xml(path, folder, marks)
            case ".json":
                _read_json(path, folder, marks)
            case ".csv":
                read_csv(path, folder, _place_of_images(path, folder), marks)
    _read_texts(paths, folder, marks)
    read_sets(folder, marks)
    return marks


def _list_files(folder: Path) -> Iterator[Path]:
    """Files that may be annotations; links to folders are not followed, hidden ones not looked into."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if name.lower().endswith(_SUFFIXES) and name[0] != ".")


def _is_expected(path: Path, folder: Path) -> bool:
    return path.parent == folder or any(part.lower() in FOLDERS for part in path.relative_to(folder).parts[:-1])


def _place_of_images(path: Path, folder: Path) -> str:
    """Where the names of images in a file begin: beside it, or anywhere where it lies apart from them."""
    return "" if _is_expected(path, folder) else path.relative_to(folder).parent.as_posix()


def _read_xml(path: Path, folder: Path, marks: Marks) -> None:
    """Reads Pascal VOC's or CVAT's XML; any other one is passed over."""
    try:
        with reading(path, "Pascal VOC annotation, nor a CVAT file"):
            root = parse_xml(read_bytes(path, folder))
    except ValueError:
        if _is_expected(path, folder):
            raise
        return
    name = path.relative_to(folder).as_posix()
    if root.tag == "annotation":
        read_voc(path, name, root, marks)
    elif root.tag == "annotations":
        read_cvat(path, name, root, marks)


def _read_json(path: Path, folder: Path, marks: Marks) -> None:
    """Reads a JSON file of a known layout; any other one is passed over."""
    try:
        with reading(path, "JSON"):
            told = parse_json(read_text(path, folder))
    except ValueError:
        if _is_expected(path, folder):
            raise
        return
    if not isinstance(told, dict):
        return
    name = path.relative_to(folder).as_posix()
    if path.name.startswith(_OTHER_TASKS) and any(path.parent.glob("instances_*.json")):
        return
    if told.keys() >= coco.KEYS:
        read_coco(path, name, _place_of_images(path, folder), told, marks)
    elif told.keys() >= datumaro.KEYS:
        read_datumaro(path, name, told, marks)
    elif told.keys() >= labelme.KEYS:
        read_labelme(path, folder, told, marks)


def _read_texts(paths: Sequence[Path], folder: Path, marks: Marks) -> None:
    """Reads YOLO's files, where something names their classes."""
    classes = read_classes(folder, paths)
    for path in paths:
        if path.suffix.lower() == ".txt" and _is_yolo(path, folder):
            if classes:
                read_yolo(path, folder, classes, marks)
            elif path.parent.name == "labels" and (path.parent.parent / "images").is_dir():
                raise ValueError(
                    f"{path}: neither data.yaml nor classes.txt in {folder} names the classes of its boxes"
                )


def _is_yolo(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    if path.name.lower() in LISTS or "ImageSets" in parts:
        return False
    return "labels" in parts[:-1] or any(path.with_suffix(suffix).exists() for suffix in (".jpg", ".png", ".jpeg"))
