"""A prepared version of a data set: how it is kept, read and used.

encodings/<token>/record.json          what was done; see `Record`
encodings/<token>/items.json.gz        for each item its frame, and how it was brought to the reference
encodings/<token>/<n>-part.png         where the part is in the reference of the n-th category, from 1, white inside
encodings/<token>/<n>-mask.png         the union mask in the frames, white inside
encodings/<token>/<segment>.mp4/.json  the frames, HEVC, alike ones next to each other
"""

import gzip
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.background import Remover
from services.codec.catalog import Snapshot
from services.codec.categories import Sorter
from services.codec.dataset import Datasets
from services.codec.geometry import Mask
from services.codec.items import Pixels
from services.codec.prepare import Blanking, Placer, Prepared, Recipe, prepare
from services.codec.records import (
    EncodedItem,
    Kind,
    Record,
    items_from_json,
    items_to_json,
    record_from_json,
    record_to_json,
)
from services.codec.reference import Reference, to_eight_bits
from services.codec.segments import Segments
from services.codec.storage import Body, Store, create
from services.runtime.errors import DataLoss, FailedPrecondition, NotFound
from services.runtime.sealed import seal, unseal

_KEPT = 8


@dataclass(frozen=True, eq=False)
class Preparer:
    """Prepares any image as an encoding's items were. Safe to use from several threads."""

    sorter: Sorter
    recipes: Mapping[str, Recipe]

    def prepare(self, pixels: NDArray[Any], category: str = "") -> tuple[str, Prepared]:
        """Prepares an image of 8 or 16 bits, grey, RGB or RGBA; returns the category, too.

        Args:
            pixels: of the image.
            category: that it is of; empty: the one that it aligns to best.

        Raises:
            NotFound: there is no such category.
        """
        found = self.sorter.sort(pixels, category or None)
        return found.category, prepare(found.image, found.placement, self.recipes[found.category])


class Encodings:
    """The prepared versions of all data sets. Safe to use from several threads."""

    def __init__(self, store: Store, datasets: Datasets) -> None:
        self._store = store
        self._datasets = datasets
        self._items: OrderedDict[str, Mapping[str, EncodedItem]] = OrderedDict()
        self._segments: OrderedDict[str, Segments] = OrderedDict()
        self._lock = Lock()

    def list_records(self, snapshot: Snapshot) -> list[Record]:
        """Returns a data set's encodings, oldest first."""
        return [self._read_record(snapshot, entry) for entry in snapshot.body["encodings"]]

    def find(self, snapshot: Snapshot, encoding_id: str = "") -> Record:
        """Returns an encoding, the newest if none is named.

        Raises:
            NotFound: no encoding of that name.
            FailedPrecondition: none is named and there is none.
        """
        entries = snapshot.body["encodings"]
        if not encoding_id and not entries:
            raise FailedPrecondition("NOT_ENCODED", f"data set {snapshot.name!r} has no encoding; call EncodeDataset")
        for entry in reversed(entries):
            if encoding_id in ("", entry["encoding_id"]):
                return self._read_record(snapshot, entry)
        raise NotFound("encoding", encoding_id)

    def list_items(self, snapshot: Snapshot, record: Record) -> Mapping[str, EncodedItem]:
        """Returns an encoding's items by identifier."""
        folder = locate(snapshot, record.token)
        with self._lock:
            if folder in self._items:
                return self._items[folder]
        with _damage_named(f"the list of items of encoding {record.encoding_id!r}"):
            data = _check(self._store.get(f"{folder}/items.json.gz"), record.items_sha256)
            items = {item.item_id: item for item in items_from_json(json.loads(gzip.decompress(data)))}
        with self._lock:
            self._items[folder] = items
            while len(self._items) > _KEPT:
                self._items.popitem(last=False)
        return items

    def segments(self, snapshot: Snapshot, record: Record) -> Segments:
        """Returns an encoding's frames."""
        folder = locate(snapshot, record.token)
        with self._lock:
            segments = self._segments.setdefault(folder, Segments(self._store, folder))
            while len(self._segments) > _KEPT:
                self._segments.popitem(last=False)
            return segments

    def open_preparer(self, snapshot: Snapshot, record: Record, remover: Remover | None) -> Preparer:
        """Returns what prepares images as the encoding's were; `remover` is of its options' background."""
        placers, recipes = {}, {}
        for number, kind in enumerate(record.categories, start=1):
            name = kind.category.name
            part, mask = (self._read_picture(snapshot, record, number, name) for name in ("part", "mask"))
            pixels = self._datasets.read_pixels(snapshot, snapshot.items[kind.category.reference_item_id])
            placers[name] = self._open_placer(pixels, part, record, kind, remover)
            blank: Blanking = "none" if mask is None else "union"
            frame = np.array(kind.frame).reshape(2, 3)
            recipes[name] = Recipe(frame, kind.width, kind.height, mask, blank, kind.fill)
        return Preparer(Sorter(placers), recipes)

    def read_pictures(self, snapshot: Snapshot, record: Record) -> None:
        """Reads the pictures of all categories; raises DataLoss where one is damaged."""
        for number, kind in enumerate(record.categories, start=1):
            for name in kind.pictures:
                self._read_picture(snapshot, record, number, name)

    def read_masks(self, snapshot: Snapshot, record: Record) -> list[Mask | None]:
        """Returns the union masks of the categories, in their order; None where nothing is blanked."""
        return [self._read_picture(snapshot, record, number + 1, "mask") for number in range(len(record.categories))]

    def _open_placer(
        self, pixels: Pixels, part: Mask | None, record: Record, kind: Kind, remover: Remover | None
    ) -> Placer:
        """Returns the placer of a category, given its reference's pixels and where the part is in it."""
        remover = remover if kind.category.is_outlined else None
        image = to_eight_bits(pixels, kind.bits, 1 if pixels.ndim == 2 else 3)
        reference, category = Reference(image, part, kind.bits), kind.category
        return Placer(reference, category.alignment, remover, record.options.transform, room=category.room)

    def _read_record(self, snapshot: Snapshot, entry: Body) -> Record:
        key = f"{locate(snapshot, entry['token'])}/record.json"
        with _damage_named(f"the record of encoding {entry['encoding_id']!r}"):
            return record_from_json(unseal(self._store.get(key)), entry["encoding_id"], entry["token"])

    def _read_picture(self, snapshot: Snapshot, record: Record, number: int, name: str) -> Mask | None:
        """Returns a picture of the category of that number, from 1; None where it has none of that name."""
        digest = record.categories[number - 1].pictures.get(name)
        if digest is None:
            return None
        with _damage_named(f"{number}-{name}.png of encoding {record.encoding_id!r}"):
            data = _check(self._store.get(f"{locate(snapshot, record.token)}/{number}-{name}.png"), digest)
            return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)) >= 128


def locate(snapshot: Snapshot, token: str) -> str:
    """Returns the folder of an encoding's objects."""
    return f"{snapshot.folder}/encodings/{token}"


def write_pictures(store: Store, folder: str, number: int, pictures: Mapping[str, Mask]) -> tuple[dict[str, str], int]:
    """Writes the masks of the category of that number, from 1; returns their SHA-256, and the bytes they take."""
    digests, size = {}, 0
    for name, mask in pictures.items():
        data = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
        size += create(store, f"{folder}/{number}-{name}.png", data)
        digests[name] = hashlib.sha256(data).hexdigest()
    return digests, size


def write_items(store: Store, folder: str, items: Sequence[EncodedItem]) -> tuple[str, int]:
    """Writes the list of items; returns its SHA-256, and the bytes it takes."""
    data = gzip.compress(json.dumps(items_to_json(items), separators=(",", ":")).encode(), mtime=0)
    return hashlib.sha256(data).hexdigest(), create(store, f"{folder}/items.json.gz", data)


def write_record(store: Store, folder: str, record: Record) -> None:
    """Writes the record, last: an encoding without one does not exist."""
    create(store, f"{folder}/record.json", seal(record_to_json(record)))


def _check(data: bytes, sha256: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("the checksum differs")
    return data


@contextmanager
def _damage_named(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, NotFound) as error:
        raise DataLoss(f"{what} is damaged or gone") from error
