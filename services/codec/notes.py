"""What an encoder knows so far, in a form that a successor can go on from."""

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.align import Alignment
from services.codec.categories import Category
from services.codec.geometry import IDENTITY, Mask
from services.codec.items import Item, Place
from services.codec.order import order_by_likeness
from services.codec.prepare import Recipe, find_map
from services.codec.records import EncodedItem


@dataclass(frozen=True, eq=False)
class Placed:
    """An item's category, how it lies on that one's canvas, and its small picture there."""

    category: str
    alignment: Alignment
    small: NDArray[np.uint8]


@dataclass
class Notes:
    """What is known so far; JSON in between.

    Attributes:
        version: of the data set.
        token: names the encoding's folder, which is nobody else's.
        saved_s: when they were last kept, seconds since 1970.
        categories: None until they are found.
        chroma_loss: None until it is measured.
        placed: the items by identifier.
        unions: by category, of the masks so far, on its canvas.
        unreadable: items that are damaged.
        files: segment and items of each finished file.
        stored_bytes: of these.
    """

    version: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    saved_s: float = 0.0
    categories: list[Category] | None = None
    chroma_loss: float | None = None
    placed: dict[str, Placed] = field(default_factory=dict)
    unions: dict[str, Mask] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, list[str]]] = field(default_factory=list)
    stored_bytes: int = 0

    @property
    def seen(self) -> int:
        """Items that need not be looked at again."""
        return len(self.placed) + len(self.unreadable)

    def has_seen(self, item_id: str) -> bool:
        """Whether the item need not be looked at again."""
        return item_id in self.placed or item_id in self.unreadable

    def unite(self, category: str, mask: Mask) -> None:
        """Adds a part's mask, on its category's canvas, to the union."""
        self.unions[category] = self.unions[category] | mask if category in self.unions else mask

    def order(self, category: str) -> list[str]:
        """Returns the identifiers of a category's items as they are encoded: alike ones next to each other."""
        placed = {name: one for name, one in sorted(self.placed.items()) if one.category == category}
        aligned = [name for name, one in placed.items() if one.alignment.aligned]
        chain = order_by_likeness(np.stack([placed[name].small for name in aligned])) if aligned else []
        # Those that did not align lie otherwise in the frame: they come last, together.
        return [aligned[at] for at in chain] + [name for name, one in placed.items() if not one.alignment.aligned]

    def list_encoded(self, items: Mapping[str, Item], recipes: Mapping[str, Recipe]) -> list[EncodedItem]:
        """Returns what the finished files hold, given the items and the recipes of the categories."""
        found = []
        for segment_id, names in self.files:
            for frame, name in enumerate(names):
                item, placed = items[name], self.placed[name]
                lies = find_map(placed.alignment, item.width, item.height, recipes[placed.category])
                flat = tuple(float(value) for value in lies.affine.ravel())
                place = Place(segment_id, frame)
                found.append(EncodedItem(name, placed.category, place, flat, lies.aligned, lies.score, lies.reason))
        return found

    def to_bytes(self) -> bytes:
        """Returns what `from_bytes` takes."""
        self.saved_s = time.time()
        value = {
            **vars(self),
            "categories": None if self.categories is None else [asdict(category) for category in self.categories],
            "placed": {name: _pack_placed(placed) for name, placed in self.placed.items()},
            "unions": {name: base64.b64encode(_pack(union)).decode() for name, union in self.unions.items()},
        }
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Notes":
        """Returns the notes that `to_bytes` was called on."""
        value = json.loads(data)
        value["placed"] = {name: _unpack_placed(packed) for name, packed in value["placed"].items()}
        value["unions"] = {name: _unpack(base64.b64decode(union)) for name, union in value["unions"].items()}
        if value["categories"] is not None:
            known = value["categories"]
            value["categories"] = [Category(**{**one, "room": tuple(one["room"])}) for one in known]
        value["files"] = [(segment_id, names) for segment_id, names in value["files"]]
        return cls(**value)


def _pack(mask: Mask) -> bytes:
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def _unpack(data: bytes) -> Mask:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)) >= 128


def _pack_placed(placed: Placed) -> list[Any]:
    alignment = placed.alignment
    flat = [float(value) for value in alignment.affine.ravel()]
    small = base64.b64encode(placed.small.tobytes()).decode()
    return [placed.category, flat, alignment.aligned, alignment.score, alignment.reason, small]


def _unpack_placed(packed: list[Any]) -> Placed:
    category, flat, aligned, score, reason, small = packed
    affine = np.array(flat).reshape(2, 3) if aligned else IDENTITY
    pixels = np.frombuffer(base64.b64decode(small), np.uint8)
    return Placed(category, Alignment(affine, aligned, score, reason), pixels)
