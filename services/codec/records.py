"""What is written down about a prepared version, and its JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from services.codec.align import Alignment
from services.codec.categories import Category
from services.codec.items import Place
from services.codec.options import Options
from services.codec.storage import Body

FORMAT = 2


@dataclass(frozen=True)
class Unaligned:
    """An item that did not align, or could not be read, and why."""

    item_id: str
    reason: str


@dataclass(frozen=True)
class Kind:
    """A category once its items were placed.

    Attributes:
        category: its name, its reference, how it is aligned.
        item_count: items in it.
        width, height: of its frames.
        frame: from the canvas to the frames, row by row.
        fill: colour outside the mask.
        bits: of the reference; see `Reference`.
        pictures: SHA-256 of its files: "part", where the part is in the reference, and "mask", the union.
    """

    category: Category
    item_count: int
    width: int
    height: int
    frame: tuple[float, ...]
    fill: tuple[int, ...]
    bits: int
    pictures: dict[str, str]


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
        items_sha256: of the list of items, as it lies in the store.
        categories: at least one, the one with the most candidates for the reference first.
        create_time_s: seconds since 1970.
        chroma_loss: what halving the colour's resolution takes from it at most; see `measure_chroma_loss`.
    """

    encoding_id: str
    token: str
    options: Options
    background_description: str
    dataset_version: int
    item_count: int
    unaligned: tuple[Unaligned, ...]
    stored_bytes: int
    items_sha256: str
    categories: tuple[Kind, ...]
    create_time_s: float
    chroma_loss: float


@dataclass(frozen=True)
class EncodedItem:
    """An item's category and frame, and how it was brought to the reference; `affine` is row by row."""

    item_id: str
    category: str
    place: Place
    affine: tuple[float, ...]
    aligned: bool
    score: float
    reason: str

    @property
    def alignment(self) -> Alignment:
        """As the aligners say it."""
        return Alignment(np.array(self.affine).reshape(2, 3), self.aligned, self.score, self.reason)


def record_to_json(record: Record) -> Body:
    """Returns what `record_from_json` takes."""
    return {"format": FORMAT, **{key: value for key, value in asdict(record).items() if key not in _FROM_MANIFEST}}


def record_from_json(value: dict[str, Any], encoding_id: str, token: str) -> Record:
    """Returns the record; raises KeyError or TypeError where something is missing."""
    fields = {key: value[key] for key in Record.__dataclass_fields__ if key not in _FROM_MANIFEST}
    options = fields["options"]
    fields["options"] = Options(**{**options, "reference_splits": tuple(options["reference_splits"])})
    fields["unaligned"] = tuple(Unaligned(**item) for item in fields["unaligned"])
    fields["categories"] = tuple(_kind_from_json(kind) for kind in fields["categories"])
    return Record(encoding_id=encoding_id, token=token, **fields)


def items_to_json(items: Sequence[EncodedItem]) -> Body:
    """Returns what `items_from_json` takes, as short as it may be: it is a good part of a small encoding.

    An item is its identifier, the numbers of its category and its file, its frame, its map, its score, and the reason
    why it did not align.
    """
    categories = list(dict.fromkeys(item.category for item in items))
    files = list(dict.fromkeys(item.place.segment for item in items))
    rows = [
        [
            item.item_id,
            categories.index(item.category),
            files.index(item.place.segment),
            item.place.frame,
            [round(value, digits) for value, digits in zip(item.affine, _DIGITS, strict=True)],
            round(item.score, 4),
            item.reason,
        ]
        for item in items
    ]
    return {"format": FORMAT, "categories": categories, "files": files, "items": rows}


def items_from_json(value: Body) -> list[EncodedItem]:
    """Returns the items; raises KeyError, IndexError, TypeError or ValueError where something is wrong."""
    categories, files = value["categories"], value["files"]
    return [
        EncodedItem(item_id, categories[category], Place(files[file], frame), tuple(affine), not reason, score, reason)
        for item_id, category, file, frame, affine, score, reason in value["items"]
    ]


_DIGITS = (7, 7, 3, 7, 7, 3)
"""Of a map: a thousandth of a pixel, at 10,000 pixels too."""
_FROM_MANIFEST = ("encoding_id", "token")


def _kind_from_json(value: dict[str, Any]) -> Kind:
    category = Category(**{**value["category"], "room": tuple(value["category"]["room"])})
    told = {"category": category, "frame": tuple(value["frame"]), "fill": tuple(value["fill"])}
    return Kind(**{**value, **told})
