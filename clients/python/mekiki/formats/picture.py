"""What every format carries: a picture, the objects marked in it, and what is known of it as a whole."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki import Annotation, AnnotationState, NewItem, ReadItem

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


@dataclass(frozen=True, eq=False)
class Mark:
    """An object in a picture."""

    annotation: Annotation
    mask: NDArray[np.bool_] | None = None
    """Which pixels of its box are the object's, (box.height, box.width); None: not known."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with what is marked in it."""

    name: str
    """Any text, such as an item's identifier: made a safe file name where it is written."""

    pixels: NDArray[np.uint8]
    """(h, w) or (h, w, 3), RGB."""

    marks: tuple[Mark, ...] = ()
    labels: tuple[str, ...] = ()
    """Of the picture as a whole, the main one first."""

    group: str = ""
    split: str = ""
    mask: NDArray[np.bool_] | None = None
    """Which pixels the main label is about, (h, w), where that is told of the picture as a whole."""

    @property
    def width(self) -> int:
        """Columns, pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows, pixels."""
        return int(self.pixels.shape[0])

    def draw_mask(self) -> NDArray[np.bool_] | None:
        """The union of the marks' masks, (h, w); None where one of them is not known, or there are none."""
        if not self.marks or any(mark.mask is None for mark in self.marks):
            return None
        drawn = np.zeros(self.pixels.shape[:2], bool)
        for mark in self.marks:
            if mark.mask is not None:
                view(drawn, mark)[...] |= mark.mask
        return drawn


def view(pixels: NDArray[np.bool_], mark: Mark) -> NDArray[np.bool_]:
    """The part of a map, (h, w), that lies in a mark's box; writing to it writes to the map."""
    box = mark.annotation.box
    return pixels[box.y_min : box.y_max, box.x_min : box.x_max]


def list_labels(annotations: Iterable[Annotation]) -> tuple[str, ...]:
    """The labels of boxes, the most frequent first."""
    return tuple(label for label, _ in Counter(each.label for each in annotations).most_common())


def is_settled(annotations: Iterable[Annotation], *, proposed: bool = False) -> bool:
    """Whether a picture can teach: every box is decided on, or `proposed` takes them as they are, and one is accepted.

    A picture all of whose boxes were rejected holds, as a rule, an object that nobody has drawn yet. One that never had
    a box is settled: it shows nothing.
    """
    states = {each.state for each in annotations}
    return states != {AnnotationState.REJECTED} and (proposed or AnnotationState.PROPOSED not in states)


def to_picture(read: ReadItem, *, proposed: bool = False) -> Picture:
    """An item with the boxes that a person has accepted, on request also those that nobody has looked at.

    Its mask, where it was read, becomes the marks' masks: of those with the item's main label, what lies in their box.

    Raises:
        MekikiError: the item's own error, such as DataLoss.
    """
    wanted = {AnnotationState.ACCEPTED, AnnotationState.PROPOSED} if proposed else {AnnotationState.ACCEPTED}
    notes = (note for note in read.item.annotations if note.state in wanted)
    item = read.item
    return Picture(
        name=item.item_id,
        pixels=to_eight_bits(read.pixels),
        marks=tuple(Mark(note, cut_mask(read.mask, note, item.label)) for note in notes),
        labels=item.labels,
        group=item.group,
        split=item.split,
        mask=read.mask,
    )


def cut_mask(mask: NDArray[np.bool_] | None, note: Annotation, label: str) -> NDArray[np.bool_] | None:
    """What of a picture's mask lies in a box with its main label; None where nothing does."""
    if mask is None or note.label != (label or note.label):
        return None
    box = note.box
    inside = mask[box.y_min : box.y_max, box.x_min : box.x_max]
    return inside if inside.any() else None


def to_eight_bits(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Pixels of an item as formats carry them: (h, w) or (h, w, 3) uint8, without transparency."""
    eight = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8)
    if eight.ndim == 3:
        eight = eight[..., 0] if eight.shape[2] == 1 else eight[..., :3]
    return eight


def to_new_item(picture: Picture) -> NewItem:
    """A picture as an item to append; its identifier is the picture's name."""
    labels = picture.labels or list_labels(mark.annotation for mark in picture.marks)
    return NewItem(
        picture.name,
        np.ascontiguousarray(picture.pixels),
        labels=labels,
        group=picture.group,
        split=picture.split,
        annotations=[mark.annotation for mark in picture.marks],
        mask=picture.draw_mask() if picture.mask is None else picture.mask,
    )


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, of its header alone; (0, 0) where it is no image."""
    from PIL import Image  # noqa: PLC0415 -- only what reads images waits for Pillow

    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0, 0  # the service says what is wrong with it


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """An image file's pixels as the services decode them (EXIF's orientation is not applied), in 8 bits.

    Raises:
        OSError: it is no PNG, JPEG, WebP, BMP or TIFF file, or a damaged one.
    """
    from PIL import Image  # noqa: PLC0415 -- as above

    with Image.open(path, formats=IMAGE_FORMATS) as image:
        if image.mode.startswith("I;16"):
            return to_eight_bits(np.asarray(image).astype(np.uint16))
        return np.asarray(image if image.mode == "L" else image.convert("L" if image.mode == "1" else "RGB"))
