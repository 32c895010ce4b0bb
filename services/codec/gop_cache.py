"""Frames of groups of pictures (GOPs) that are read more than once, each decoded once."""

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from services.codec.items import Pixels, Place
from services.codec.segments import Segments
from services.runtime.errors import DataLoss

CACHE_BYTES = 64 << 20


class GopCache:
    """Reads frames; of a GOP that several of them share, each is decoded once, and none before it is needed.

    Safe to use from several threads; holds at most `limit_bytes` of frames.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._begun: OrderedDict[tuple[str, int], _Gop] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def read(self, segments: Segments, place: Place) -> Pixels:
        """Returns a frame, which is not to be written to; raises as `Segments.read_frame`."""
        video = segments.read_index(place.segment).video
        gop = None if video is None else video.find_gop(place.frame)
        if video is None or gop is None or len(gop.sizes) == 1:
            return segments.read_frame(place)
        size = len(gop.sizes) * video.frame_bytes
        if size > self._limit:
            return segments.read_frame(place)
        with self._lock:
            key = (place.segment, gop.first)
            if key not in self._begun:
                self._begun[key] = _Gop(segments.read_gop(place.segment, gop), size)
                self._held += size
            self._begun.move_to_end(key)
            while self._held > self._limit:
                self._held -= self._begun.popitem(last=False)[1].size
            begun = self._begun[key]
        try:
            return begun.read(place.frame - gop.first)
        except DataLoss:
            self._forget(key, begun)
            raise

    def _forget(self, key: tuple[str, int], begun: "_Gop") -> None:
        with self._lock:
            if self._begun.get(key) is begun:
                self._held -= self._begun.pop(key).size


class _Gop:
    """The frames of a GOP as far as they were decoded, and the decoder that goes on from there."""

    def __init__(self, decoder: Iterator[Pixels], size: int) -> None:
        self.size = size
        self._decoder = decoder
        self._frames: list[Pixels] = []
        self._failure: DataLoss | None = None
        self._lock = Lock()

    def read(self, number: int) -> Pixels:
        with self._lock:
            try:
                while len(self._frames) <= number and self._failure is None:
                    self._frames.append(next(self._decoder))
            except StopIteration:
                self._failure = DataLoss(f"its group of frames ends after {len(self._frames)}")
            except DataLoss as error:
                self._failure = error
            if self._failure is not None:
                raise self._failure
            return self._frames[number]
