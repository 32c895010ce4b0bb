"""Items of a data set as images to export."""

import numpy as np

from mekiki import AnnotationState, ReadItem
from mekiki._voc import VocImage


def to_voc(read: ReadItem, *, accepted: bool) -> VocImage:
    """An item with the boxes that nobody has rejected, or only with those that a person has accepted."""
    pixels = read.pixels
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]
    objects = tuple(
        (note.label, (note.box.x_min, note.box.y_min, note.box.x_max, note.box.y_max))
        for note in read.item.annotations
        if note.state is AnnotationState.ACCEPTED or not (accepted or note.state is AnnotationState.REJECTED)
    )
    return VocImage(read.item.item_id, pixels.astype(np.uint8), objects)
