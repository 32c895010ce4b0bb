"""Prepared pixels at another rate: prepared anew, encoded, decoded, and kept nowhere."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from services.codec.ahead import map_ahead
from services.codec.background import Image
from services.codec.encoding import Preparer
from services.codec.model import Codec
from services.codec.reading import OriginalReader
from services.codec.records import EncodedItem
from services.codec.video import decode_video
from services.codec.video_encode import encode_lossy
from services.runtime.errors import NotFound


@dataclass(frozen=True)
class Wanted:
    """Which items of which encoding, at which rate factor."""

    dataset: str
    encoding_id: str
    item_ids: tuple[str, ...]
    crf: int


@dataclass(frozen=True, eq=False)
class Frame:
    """An item's pixels as they come out of the video, and the bytes that they take in it."""

    item_id: str
    pixels: Image
    frame_bytes: int


def preview(codec: Codec, wanted: Wanted) -> Iterator[Frame]:
    """Yields items as an encoding of them alone would have them, category by category.

    Raises:
        NotFound: no such data set or encoding, or an item that is not in it.
        DataLoss: an item is damaged.
    """
    record, preparer = codec.find_preparer(wanted.dataset, wanted.encoding_id)
    snapshot = codec.datasets.open(wanted.dataset)
    encoded = codec.encodings.list_items(snapshot, record)
    for item_id in wanted.item_ids:
        if item_id not in encoded:
            raise NotFound("item", item_id)
    # As they lie in the encoding's own videos: alike ones next to each other.
    items = sorted((encoded[item_id] for item_id in set(wanted.item_ids)), key=lambda item: (item.category, item.place))
    draw = partial(_draw, OriginalReader(codec.datasets, snapshot), preparer)
    for _, members in groupby(items, key=lambda item: item.category):
        run = list(members)
        video = encode_lossy(map_ahead(draw, run, 2), replace(record.options.rate, crf=wanted.crf))
        sizes = [gop.sizes[gop.order.index(place)] for gop in video.index.gops for place in range(len(gop.sizes))]
        for item, pixels, size in zip(run, decode_video(video), sizes, strict=True):
            yield Frame(item.item_id, pixels, size)


def _draw(reader: OriginalReader, preparer: Preparer, item: EncodedItem) -> Image:
    return preparer.prepare(reader.read_named(item.item_id).pixels, item.category)[1].image
