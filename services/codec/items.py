"""An item of a data set without its pixels, and its JSON."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 128
"""A mask's pixel of which nobody has said what it is; 255 belongs to the object, 0 to the background."""

Pixels = NDArray[Any]  # (h, w) or (h, w, 3 | 4), uint8 or uint16
Content = tuple[str, tuple[int, ...], int]
"""Equal for equal pixels: their SHA-256, their shape, their bits."""


@dataclass(frozen=True)
class Annotation:
    """A labelled box on the original, half-open: [x_min, x_max) x [y_min, y_max), pixels.

    Attributes:
        annotation_id: unique within the item.
        label: what.
        score: 0 to 1.
        source: who or what made it.
        state: "proposed", "accepted" or "rejected".
        needs_review: a person should look at it first.
    """

    annotation_id: str
    x_min: int
    y_min: int
    x_max: int
    y_max: int
    label: str
    score: float
    source: str
    state: str
    needs_review: bool


@dataclass(frozen=True, order=True)
class Place:
    """Where an item's pixels are kept: a frame of a segment. In order they are read fastest."""

    segment: str
    frame: int


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        item_id: unique in its data set.
        labels: the main one first.
        group: part, author or day; may be empty.
        split: such as "train"; may be empty.
        sha256: of the pixels, row by row, 16 bits in little endian; hexadecimal.
        width, height: pixels.
        channels: 1, 3 or 4.
        bit_depth: 8 or 16.
        annotations: boxes.
        create_time_s: seconds since 1970.
        original_bytes: what was sent.
        revision: grows with every update.
        place: of its pixels.
        mask: of the mask that a person drew, a grey image of 0, 255 and UNKNOWN, of the same size; None without one.
        mask_sha256: of that image; empty where there is none.
        mask_is_partial: a pixel of it is UNKNOWN.
    """

    item_id: str
    labels: tuple[str, ...]
    group: str
    split: str
    sha256: str
    width: int
    height: int
    channels: int
    bit_depth: int
    annotations: tuple[Annotation, ...]
    create_time_s: float
    original_bytes: int
    revision: int
    place: Place
    mask: Place | None = None
    mask_sha256: str = ""
    mask_is_partial: bool = False

    @property
    def pixel_bytes(self) -> int:
        """Of its pixels in memory."""
        return self.width * self.height * self.channels * self.bit_depth // 8

    @property
    def places(self) -> frozenset[Place]:
        """Of its pixels, and of its mask."""
        return frozenset(place for place in (self.place, self.mask) if place is not None)

    @property
    def content(self) -> Content:
        """Equal for items with equal pixels."""
        size = (self.height, self.width)
        return self.sha256, size if self.channels == 1 else (*size, self.channels), self.bit_depth

    @property
    def etag(self) -> str:
        """Changes with every update, not where pixels are moved."""
        # Whether a mask is partial shows in its SHA-256.
        silent = ("place", "mask", "mask_is_partial")
        told = {key: value for key, value in asdict(self).items() if key not in silent}
        text = json.dumps(told, sort_keys=True)
        return f"{self.revision}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def hash_pixels(pixels: Pixels) -> str:
    """Returns the SHA-256 of the pixels, row by row, 16 bits in little endian; hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).data).hexdigest()


def has_shape(item: Item, pixels: Pixels) -> bool:
    """Whether the pixels have the item's size, channels and depth."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    shape = (item.height, item.width, item.channels, item.bit_depth)
    return shape == (*pixels.shape[:2], channels, 8 * pixels.dtype.itemsize)


def sort_by_place(items: Iterable[Item]) -> list[Item]:
    """Returns items in the order in which their exact pixels lie."""
    return sorted(items, key=lambda item: item.place)


def to_json(item: Item) -> dict[str, Any]:
    """Returns what `from_json` takes."""
    return asdict(item)


def from_json(value: dict[str, Any]) -> Item:
    """Returns the item that `to_json` was given."""
    return Item(
        **{
            **value,
            "labels": tuple(value["labels"]),
            "annotations": tuple(Annotation(**annotation) for annotation in value["annotations"]),
            "place": Place(**value["place"]),
            "mask": Place(**value["mask"]) if value.get("mask") else None,
        }
    )
