"""One way in for all formats."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from mekiki.formats.coco import write_coco
from mekiki.formats.cvat import write_cvat
from mekiki.formats.datumaro import write_datumaro
from mekiki.formats.labelme import write_labelme
from mekiki.formats.picture import Picture
from mekiki.formats.table import write_csv
from mekiki.formats.voc import write_voc
from mekiki.formats.yolo import write_yolo


class DatasetFormat(StrEnum):
    """How annotated pictures are laid out in a folder."""

    VOC = "voc"
    """Pascal VOC: an XML a picture, and trainval.txt."""

    YOLO = "yolo"
    """A text file a picture, and data.yaml, as Ultralytics has them."""

    COCO = "coco"
    """One JSON file a split."""

    DATUMARO = "datumaro"
    """Datumaro's own JSON."""

    LABELME = "labelme"
    """A JSON file beside each picture."""

    CVAT = "cvat"
    """CVAT for images 1.1: one XML."""

    CSV = "csv"
    """A row a box."""


class Writer(Protocol):
    """What each format's file has."""

    def __call__(self, out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
        """Writes pictures below a folder and returns how many."""


_WRITERS: Mapping[DatasetFormat, Writer] = {
    DatasetFormat.VOC: write_voc,
    DatasetFormat.YOLO: write_yolo,
    DatasetFormat.COCO: write_coco,
    DatasetFormat.DATUMARO: write_datumaro,
    DatasetFormat.LABELME: write_labelme,
    DatasetFormat.CVAT: write_cvat,
    DatasetFormat.CSV: write_csv,
}
MASKED = frozenset({DatasetFormat.COCO, DatasetFormat.DATUMARO, DatasetFormat.LABELME, DatasetFormat.CVAT})
"""The formats in which masks are written."""


def write_dataset(form: DatasetFormat | str, out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
    """Writes pictures and what is marked in them below `out`; one picture is held at a time.

    Args:
        form: the format.
        out: folder, which is made; files of the same names in it are replaced.
        pictures: what to write; two of the same name get files of different names.
        lossless: PNG instead of JPEG of quality 95.

    Returns:
        How many pictures were written.

    Raises:
        ValueError: there is no such format.
        OSError: a file could not be written.
    """
    return _WRITERS[DatasetFormat(form)](out, pictures, lossless=lossless)
