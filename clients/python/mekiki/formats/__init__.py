"""Annotated pictures in the formats that other tools read and write.

    from mekiki import formats

    formats.write_dataset("coco", folder, (formats.to_picture(read) for read in client.codec.read_items("parts")))

Writing streams: one picture is held at a time. `mekiki push` reads what all of them write.
"""

from mekiki.formats.outlines import Outline
from mekiki.formats.picture import Mark, Picture, is_settled, to_new_item, to_picture
from mekiki.formats.reading import read_marks
from mekiki.formats.told import Marks, Told, ToldBox
from mekiki.formats.writing import DatasetFormat, write_dataset

__all__ = [
    "DatasetFormat",
    "Mark",
    "Marks",
    "Outline",
    "Picture",
    "Told",
    "ToldBox",
    "is_settled",
    "read_marks",
    "to_new_item",
    "to_picture",
    "write_dataset",
]
