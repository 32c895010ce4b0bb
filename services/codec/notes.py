"""What an encoder knows so far, in a form that a successor can go on from."""

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.align import Alignment
from services.codec.geometry import IDENTITY, Mask
from services.codec.order import order_by_likeness
from services.runtime.errors import FailedPrecondition


@dataclass
class Notes:
    """What is known so far; JSON in between.

    Attributes:
        version: of the data set.
        token: names the encoding's folder, which is nobody else's.
        saved_s: when they were last kept, seconds since 1970.
        placed: per item its alignment and its small picture.
        union: of the masks so far, on the canvas.
        unreadable: items that are damaged.
        files: segment and items of each finished file.
        stored_bytes: of these.
    """

    version: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    saved_s: float = 0.0
    placed: dict[str, tuple[Alignment, NDArray[np.uint8]]] = field(default_factory=dict)
    union: Mask | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, list[str]]] = field(default_factory=list)
    stored_bytes: int = 0

    @property
    def seen(self) -> int:
        """Items that need not be looked at again."""
        return len(self.placed) + len(self.unreadable)

    def unite(self, mask: Mask) -> None:
        """Adds a part's mask, on the canvas, to the union."""
        self.union = mask if self.union is None else self.union | mask

    def order(self) -> list[str]:
        """Returns the identifiers in the order in which they are encoded: alike ones next to each other.

        Raises:
            FailedPrecondition: there is none.
        """
        if not self.placed:
            raise FailedPrecondition("EMPTY_DATASET", "no item of the data set can be read")
        aligned = [name for name in self.placed if self.placed[name][0].aligned]
        chain = order_by_likeness(np.stack([self.placed[name][1] for name in aligned])) if aligned else []
        # Those that did not align lie otherwise in the frame: they come last, together.
        return [aligned[place] for place in chain] + [n for n in self.placed if not self.placed[n][0].aligned]

    def to_bytes(self) -> bytes:
        """Returns what `from_bytes` takes."""
        self.saved_s = time.time()
        union = None if self.union is None else base64.b64encode(_pack(self.union)).decode()
        placed = {name: _pack_placed(*placed) for name, placed in self.placed.items()}
        value = {**vars(self), "placed": placed, "union": union}
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Notes":
        """Returns the notes that `to_bytes` was called on."""
        value = json.loads(data)
        value["placed"] = {name: _unpack_placed(packed) for name, packed in value["placed"].items()}
        value["union"] = None if value["union"] is None else _unpack(base64.b64decode(value["union"]))
        value["files"] = [(segment_id, names) for segment_id, names in value["files"]]
        return cls(**value)


def _pack(mask: Mask) -> bytes:
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def _unpack(data: bytes) -> Mask:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)) >= 128


def _pack_placed(alignment: Alignment, small: NDArray[np.uint8]) -> list[Any]:
    flat = [float(value) for value in alignment.affine.ravel()]
    return [flat, alignment.aligned, alignment.score, alignment.reason, base64.b64encode(small.tobytes()).decode()]


def _unpack_placed(packed: list[Any]) -> tuple[Alignment, NDArray[np.uint8]]:
    flat, aligned, score, reason, small = packed
    affine = np.array(flat).reshape(2, 3) if aligned else IDENTITY
    return Alignment(affine, aligned, score, reason), np.frombuffer(base64.b64decode(small), np.uint8)
