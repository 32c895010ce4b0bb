"""A prepared version of a data set: its record, and how it is read and used.

encodings/<token>/record.json          what was done; see `Record`
encodings/<token>/items.json           for each item its frame, and how it was brought to the reference
encodings/<token>/reference.png        the picture that all were brought to; reference_mask.png: its part
encodings/<token>/mask.png             the union mask in the frames, white inside
encodings/<token>/<segment>.mp4/.json  the frames, HEVC, alike ones next to each other
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.align import Alignment
from services.codec.background import Image, Remover
from services.codec.catalog import Snapshot
from services.codec.geometry import Affine, Mask
from services.codec.items import Place
from services.codec.prepare import AlignmentMethod, Blanking, Placer, Prepared, Recipe, Reference, prepare
from services.codec.segments import Segments
from services.codec.storage import Body, Store
from services.runtime.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound

FORMAT = 1
_KEPT = 8


@dataclass(frozen=True)
class Options:
    """How a prepared version is made, every default filled in; fields as in the proto's `EncodingOptions`."""

    background: str
    alignment: AlignmentMethod
    blank_background: bool
    crf: int
    gop: int
    reference_item_id: str
    reference_splits: tuple[str, ...]
    mask_margin: int


@dataclass(frozen=True)
class Unaligned:
    """An item that did not align, or could not be read, and why."""

    item_id: str
    reason: str


@dataclass(frozen=True)
class Record:
    """What is known of an encoding.

    Attributes:
        encoding_id: such as "prepared-1".
        token: names its folder.
        options: how it was made; its background is what was used, never "auto".
        background_description: what was used to remove the background, as a sentence.
        dataset_version: that was encoded.
        item_count: items in it.
        unaligned: those that are not warped.
        stored_bytes: of all its objects.
        width, height: of its frames.
        frame: from the canvas to the frames, row by row.
        fill: colour outside the mask.
        bits: of the reference; see `Reference`.
        masked: whether it has a union mask.
        create_time_s: seconds since 1970.
    """

    encoding_id: str
    token: str
    options: Options
    background_description: str
    dataset_version: int
    item_count: int
    unaligned: tuple[Unaligned, ...]
    stored_bytes: int
    width: int
    height: int
    frame: tuple[float, ...]
    fill: tuple[int, ...]
    bits: int
    masked: bool
    create_time_s: float


@dataclass(frozen=True)
class EncodedItem:
    """An item's frame, and how it was brought to the reference; `affine` is row by row."""

    item_id: str
    place: Place
    affine: tuple[float, ...]
    aligned: bool
    score: float
    reason: str

    @property
    def alignment(self) -> Alignment:
        """As the aligners say it."""
        return Alignment(np.array(self.affine).reshape(2, 3), self.aligned, self.score, self.reason)


@dataclass(frozen=True, eq=False)
class Preparer:
    """Prepares any image as an encoding's items were. Safe to use from several threads."""

    placer: Placer
    recipe: Recipe

    def prepare(self, pixels: NDArray[Any]) -> Prepared:
        """Prepares an image of 8 or 16 bits, grey, RGB or RGBA."""
        image = self.placer.convert(pixels)
        return prepare(image, self.placer.place(image), self.recipe)


class Encodings:
    """The prepared versions of all data sets. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
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
        values = self._read_json(f"{folder}/items.json")["items"]
        items = {value["item_id"]: _to_encoded_item(value) for value in values}
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
        folder = locate(snapshot, record.token)
        reference_mask = None if remover is None else self._read_png(f"{folder}/reference_mask.png") >= 128
        image = self._read_png(f"{folder}/reference.png")
        colour: Image = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        placer = Placer(Reference(colour, reference_mask, record.bits), record.options.alignment, remover)
        mask = self.read_mask(snapshot, record)
        blank: Blanking = "none" if mask is None else "union"
        frame: Affine = np.array(record.frame).reshape(2, 3)
        return Preparer(placer, Recipe(frame, record.width, record.height, mask, blank, record.fill))

    def read_mask(self, snapshot: Snapshot, record: Record) -> Mask | None:
        """Returns the union mask, (height, width); None where nothing is blanked."""
        if not record.masked:
            return None
        return np.asarray(self._read_png(f"{locate(snapshot, record.token)}/mask.png") >= 128)

    def _read_record(self, snapshot: Snapshot, entry: Body) -> Record:
        value = self._read_json(f"{locate(snapshot, entry['token'])}/record.json")
        try:
            return _to_record(value, entry["encoding_id"], entry["token"])
        except (KeyError, TypeError) as error:
            raise DataLoss(f"the record of encoding {entry['encoding_id']!r} is damaged") from error

    def _read_json(self, key: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(self._store.get(key))
        except (ValueError, NotFound) as error:
            raise DataLoss(f"{key} is damaged or gone") from error
        return value

    def _read_png(self, key: str) -> NDArray[np.uint8]:
        try:
            data = np.frombuffer(self._store.get(key), np.uint8)
        except NotFound as error:
            raise DataLoss(f"{key} is gone") from error
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
        if image is None:
            raise DataLoss(f"{key} is damaged")
        return np.asarray(image, np.uint8)


def locate(snapshot: Snapshot, token: str) -> str:
    """Returns the folder of an encoding's objects."""
    return f"{snapshot.folder}/encodings/{token}"


def write_pictures(store: Store, folder: str, reference: Reference, mask: Mask | None) -> int:
    """Writes the reference and the masks; returns the bytes they take."""
    image = reference.image if reference.image.ndim == 2 else cv2.cvtColor(reference.image, cv2.COLOR_RGB2BGR)
    pictures = {"reference": image}
    if reference.mask is not None:
        pictures["reference_mask"] = reference.mask.astype(np.uint8) * 255
    if mask is not None:
        pictures["mask"] = mask.astype(np.uint8) * 255
    return sum(
        _create(store, f"{folder}/{name}.png", cv2.imencode(".png", picture)[1].tobytes())
        for name, picture in pictures.items()
    )


def write_items(store: Store, folder: str, items: list[EncodedItem]) -> int:
    """Writes the list of items; returns the bytes it takes."""
    value = {"format": FORMAT, "items": [asdict(item) for item in items]}
    return _create(store, f"{folder}/items.json", json.dumps(value, separators=(",", ":")).encode())


def write_record(store: Store, folder: str, record: Record) -> None:
    """Writes the record, last: an encoding without one does not exist."""
    value = {key: value for key, value in asdict(record).items() if key not in ("encoding_id", "token")}
    _create(store, f"{folder}/record.json", json.dumps({"format": FORMAT, **value}, separators=(",", ":")).encode())


def _create(store: Store, key: str, data: bytes) -> int:
    with suppress(AlreadyExists):  # a worker that was lost had come as far as this
        store.create(key, data)
    return len(data)


def _to_record(value: dict[str, Any], encoding_id: str, token: str) -> Record:
    fields = {key: value[key] for key in Record.__dataclass_fields__ if key not in ("encoding_id", "token")}
    options = dict(fields["options"])
    options["reference_splits"] = tuple(options["reference_splits"])
    fields["options"] = Options(**options)
    fields["unaligned"] = tuple(Unaligned(**item) for item in fields["unaligned"])
    fields["frame"] = tuple(fields["frame"])
    fields["fill"] = tuple(fields["fill"])
    return Record(encoding_id=encoding_id, token=token, **fields)


def _to_encoded_item(value: dict[str, Any]) -> EncodedItem:
    return EncodedItem(**{**value, "place": Place(**value["place"]), "affine": tuple(value["affine"])})
