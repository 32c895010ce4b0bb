"""Immutable pieces of a data set: images of one shape as a video, a single or tiny one as PNG, with a JSON index.

    <folder>/<id>.mp4 or <id>.png    the pixels; `ffmpeg` or any viewer reads them
    <folder>/packed-<id>.mp4 or .zip what a compaction made of them: a video, or WebP files of any size
    <folder>/<id>.json               which item is which frame, the SHA-256 of its pixels, where each GOP's bytes lie
    <folder>/<id>.copy               the same once more, where copies are kept

The id is a SHA-256 of all of it, so that writing the same piece twice is writing it once; and of a random salt where a
writer must not build upon what a dead one left, which a sweep may be about to take.
"""

import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import Any

from services.codec.items import Content, Pixels, Place
from services.codec.segment_index import Index, index_from_json, stills_to_json, video_to_json
from services.codec.stills import decode_png, decode_still, encode_png, encode_still, encode_stills
from services.codec.storage import Body, Store, create, create_twice
from services.codec.video import Gop, Video, decode_frame, decode_gop
from services.codec.video_encode import can_encode, encode_exact
from services.runtime.errors import DataLoss, InvalidArgument, NotFound
from services.runtime.sealed import read_sealed, seal, unseal

FORMAT = 1
PACKED = "packed-"
"""How the names of segments begin that a compaction wrote."""
PACKED_GOP = 6
"""Frames: 16 would save half a percent more, and cost a random read nearly three times as much."""
_SAMPLE = 8
_SAMPLE_STILLS = 2  # WebP takes seconds for a megapixel
_INDEXES_KEPT = 4096


@dataclass(frozen=True, eq=False)
class Named:
    """Pixels, or a mask as grey ones, with the identifier and the SHA-256 that go into the index."""

    item_id: str
    sha256: str
    pixels: Pixels
    is_mask: bool = False

    @property
    def content(self) -> Content:
        """Equal for equal pixels."""
        return self.sha256, self.pixels.shape, self.pixels.dtype.itemsize * 8


@dataclass(frozen=True)
class Segment:
    """One piece as it was written.

    Attributes:
        segment_id: names its objects.
        stored_bytes: of the pixel file and the index.
        places: of the images that were given, in their order.
    """

    segment_id: str
    stored_bytes: int
    places: tuple[Place, ...]


class Segments:
    """The segments beneath one folder of a store. Safe to use from several threads.

    With `has_copies` each index is written twice, and a damaged one read from its copy.
    """

    def __init__(self, store: Store, folder: str, *, has_copies: bool = False) -> None:
        self._store = store
        self._has_copies = has_copies
        self._folder = folder
        self._indexes: OrderedDict[str, Index] = OrderedDict()
        self._lock = Lock()

    def write_exact(self, images: Sequence[Named]) -> tuple[list[Place], int]:
        """Writes images exactly, in as few segments as their shapes allow, even where the same were written before.

        Returns:
            Their places, in order, and the bytes that the segments take.
        """
        places: dict[int, Place] = {}
        stored = 0
        for run in _group_by_shape(images):
            members = [images[number] for number in run]
            segment = self._write_stills(members) if _must_be_still(members) else self._write_film(members)
            places.update(zip(run, segment.places, strict=True))
            stored += segment.stored_bytes
        return [places[number] for number in range(len(images))], stored

    def write_video(self, video: Video, items: Sequence[dict[str, Any]], salt: bytes = b"") -> Segment:
        """Writes a video with an index entry a frame, JSON objects; none where frames are told apart elsewhere."""
        index = {"kind": "video", "video": video_to_json(video.index), "items": list(items)}
        segment_id, size = self._write("mp4", video.data, index, salt)
        return Segment(segment_id, size, tuple(Place(segment_id, frame) for frame in range(video.index.frame_count)))

    def write_smallest(self, names: Sequence[str], read: Callable[[], Iterator[Pixels]], threads: int) -> Segment:
        """Writes images in whichever form takes the least, judged by the first few; slow, and they must be alike.

        Args:
            names: identifiers of the items, for the index.
            read: returns the images' pixels in order; called several times. Of several shapes they become stills.
            threads: stills that are made at once.
        """
        salt = secrets.token_bytes(16)
        sample = list(islice(read(), _SAMPLE))
        if all(pixels.shape == sample[0].shape and can_encode(pixels) for pixels in sample):
            video = encode_smallest(sample, read)
            if video is not None:
                index: Body = {"kind": "video", "video": video_to_json(video.index), "items": list(names)}
                segment_id, size = self._write("mp4", video.data, index, salt, PACKED)
                return Segment(segment_id, size, tuple(Place(segment_id, frame) for frame in range(len(names))))
        data, stills = encode_stills(read(), threads)
        index = {"kind": "stills", "stills": stills_to_json(stills), "items": list(names)}
        segment_id, size = self._write("zip", data, index, salt, PACKED)
        return Segment(segment_id, size, tuple(Place(segment_id, frame) for frame in range(len(names))))

    def read_frame(self, place: Place) -> Pixels:
        """Returns one image; of a video fetches one GOP and decodes it no further than needed.

        Raises:
            DataLoss: the bytes are damaged or gone.
        """
        index = self.read_index(place.segment)
        if index.video is not None:
            gop = index.video.find_gop(place.frame)
            return decode_frame(index.video, place.frame, self._fetch(index, gop.start, gop.end))
        if index.stills:
            still = index.stills[place.frame]
            return decode_still(still, self._fetch(index, still.start, still.end))
        return decode_png(self._get(index.file))

    def read_gop(self, segment_id: str, gop: Gop) -> Iterator[Pixels]:
        """Yields the frames of a video's GOP; raises as `read_frame`."""
        index = self.read_index(segment_id)
        if index.video is None:
            raise InvalidArgument("segment", f"must be a video, {segment_id} is a PNG")
        yield from decode_gop(index.video, gop, self._fetch(index, gop.start, gop.end))

    def read_file(self, segment_id: str) -> bytes:
        """Returns a segment's pixel file, whole; raises DataLoss where it is gone."""
        return self._get(self.read_index(segment_id).file)

    def read_index(self, segment_id: str) -> Index:
        """Returns a segment's index; raises DataLoss where it is damaged."""
        with self._lock:
            if segment_id in self._indexes:
                self._indexes.move_to_end(segment_id)
                return self._indexes[segment_id]
        index = self._parse(segment_id)
        with self._lock:
            self._indexes[segment_id] = index
            while len(self._indexes) > _INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return index

    def _write_film(self, images: Sequence[Named]) -> Segment:
        video = encode_exact([image.pixels for image in images])
        return self.write_video(video, [_entry(image) for image in images], secrets.token_bytes(16))

    def _write_stills(self, images: Sequence[Named]) -> Segment:
        places, stored = [], 0
        for image in images:
            data = encode_png(image.pixels)
            index = {"kind": "still", "items": [_entry(image)]}
            segment_id, size = self._write("png", data, index, secrets.token_bytes(16))
            stored += size
            places.append(Place(segment_id, 0))
        return Segment(places[0].segment, stored, tuple(places))

    def _write(self, ending: str, data: bytes, index: Body, salt: bytes, prefix: str = "") -> tuple[str, int]:
        """Returns the new segment's id and the bytes it takes."""
        told = json.dumps(index, sort_keys=True).encode()
        segment_id = prefix + hashlib.sha256(hashlib.sha256(data).digest() + told + salt).hexdigest()[:40]
        told_of_file = {"file": f"{segment_id}.{ending}", "file_sha256": hashlib.sha256(data).hexdigest()}
        whole = {"format": FORMAT, **told_of_file, "file_bytes": len(data), **index}
        # The pixels first: an index never names a file that is not there.
        size = create(self._store, self._key(f"{segment_id}.{ending}"), data)
        key = self._key(f"{segment_id}.json")
        return segment_id, size + (
            create_twice(self._store, key, whole) if self._has_copies else create(self._store, key, seal(whole))
        )

    def _parse(self, segment_id: str) -> Index:
        key = self._key(f"{segment_id}.json")
        try:
            value = read_sealed(self._store.get, key) if self._has_copies else unseal(self._get(f"{segment_id}.json"))
            return index_from_json(value, copies=2 if self._has_copies else 1)
        except (ValueError, KeyError, TypeError) as error:
            raise DataLoss(f"the index of segment {segment_id} is damaged") from error

    def _get(self, name: str) -> bytes:
        try:
            return self._store.get(self._key(name))
        except NotFound as error:
            raise DataLoss(f"{name} is gone") from error

    def _fetch(self, index: Index, start: int, end: int) -> bytes:
        try:
            return self._store.get_range(self._key(index.file), start, end)
        except NotFound as error:
            raise DataLoss(f"{index.file} is gone") from error

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"


def encode_smallest(sample: Sequence[Pixels], read: Callable[[], Iterator[Pixels]]) -> Video | None:
    """Returns the smallest video of what `read` returns, judged by a sample of it; None where stills are smaller."""
    videos = {large: encode_exact(sample, PACKED_GOP, is_large_context=large) for large in (False, True)}
    sizes = {large: sum(gop.end - gop.start for gop in video.index.gops) for large, video in videos.items()}
    is_large = sizes[True] < sizes[False]
    packets = [size for gop in videos[is_large].index.gops for size in gop.sizes]
    # From the middle: what a group learns, it has learnt half by then.
    start = max(0, (len(sample) - _SAMPLE_STILLS) // 2)
    few = slice(start, start + _SAMPLE_STILLS)
    if sum(len(encode_still(pixels)[1]) for pixels in sample[few]) < sum(packets[few]):
        return None
    return encode_exact(read(), PACKED_GOP, is_large_context=is_large)


def _group_by_shape(images: Sequence[Named]) -> list[list[int]]:
    """Returns the numbers of images that can share a segment, group by group."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault((image.pixels.shape, image.pixels.dtype.str), []).append(number)
    return list(groups.values())


def _must_be_still(images: Sequence[Named]) -> bool:
    return len(images) == 1 or not can_encode(images[0].pixels)


def _entry(image: Named) -> dict[str, Any]:
    return {"item_id": image.item_id, "sha256": image.sha256} | ({"mask": True} if image.is_mask else {})
