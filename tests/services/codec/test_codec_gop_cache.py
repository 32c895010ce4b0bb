from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from codec_parts import draw_parts
from test_codec_encode import Recorder

from services.codec import gop_cache, segments
from services.codec.changes import NewItem
from services.codec.compact import Compactor
from services.codec.gop_cache import GopCache
from services.codec.items import sort_by_place
from services.codec.reading import OriginalReader
from services.codec.segments import PACKED_GOP
from services.runtime.errors import DataLoss

COUNT = 20
FRAME_BYTES = 200 * 200


@pytest.fixture
def packed(datasets, monkeypatch):
    """Twenty parts in a video with groups of six frames."""
    assert PACKED_GOP == 6
    datasets.create("parts")
    datasets.append("parts", [NewItem(f"part-{n:02d}", part, 1) for n, part in enumerate(draw_parts(COUNT))])
    monkeypatch.setattr(segments, "encode_still", lambda _: (None, bytes(1 << 20)))  # a video is smaller
    Compactor(datasets, Recorder(), 2).compact("parts")
    snapshot = datasets.open("parts")
    assert len({item.place.segment for item in snapshot.items.values()}) == 1
    return datasets


@pytest.fixture
def decoded(monkeypatch):
    """Counts the frames that are decoded."""
    decode, numbers = segments.decode_gop, []

    def count(index, gop, data):
        for number, frame in enumerate(decode(index, gop, data), gop.first):
            numbers.append(number)
            yield frame

    monkeypatch.setattr(segments, "decode_gop", count)
    return numbers


def test_each_frame_is_decoded_once_by_several_threads_in_any_order(packed, decoded):
    snapshot = packed.open("parts")
    reader = OriginalReader(packed, snapshot)
    items = list(np.random.default_rng(3).permutation(list(snapshot.items.values())))
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(reader.read, items))
    assert sorted(decoded) == list(range(COUNT))
    for item, one in zip(items, read, strict=True):
        assert np.array_equal(one.pixels, packed.read_pixels(snapshot, item))


def test_no_frame_is_decoded_that_is_not_needed(packed, decoded):
    snapshot = packed.open("parts")
    reader = OriginalReader(packed, snapshot)
    asked = sort_by_place(snapshot.items.values())
    for place in (2, 8, 1):
        reader.read(asked[place])
    assert decoded == [0, 1, 2, 6, 7, 8]


def test_what_is_held_is_bounded_and_nothing_is_lost_by_it(packed):
    snapshot = packed.open("parts")
    cache = GopCache(17 * FRAME_BYTES)
    for item in snapshot.items.values():
        assert np.array_equal(packed.read_pixels(snapshot, item, cache), packed.read_pixels(snapshot, item))
        assert 0 < cache._held == sum(gop.size for gop in cache._begun.values()) <= 17 * FRAME_BYTES


def test_a_group_too_large_to_hold_is_read_without(packed, monkeypatch):
    monkeypatch.setattr(gop_cache, "_Gop", None)
    snapshot = packed.open("parts")
    cache = GopCache(FRAME_BYTES)
    assert [packed.read_pixels(snapshot, item, cache).shape for item in snapshot.items.values()] == [(200, 200)] * COUNT


def test_damage_is_told_of_every_item_of_its_group_and_of_no_other(packed, store):
    snapshot = packed.open("parts")
    items = sort_by_place(snapshot.items.values())
    segment = items[0].place.segment
    gop = packed.segments(snapshot).read_index(segment).video.gops[1]
    key = f"{snapshot.folder}/segments/{segment}.mp4"
    data = bytearray(store.get(key))
    data[gop.start + 9] ^= 1
    store.put(key, bytes(data))
    reader = OriginalReader(packed, snapshot)
    for place, item in enumerate(items):
        if 6 <= place < 12:
            for _ in range(2):
                with pytest.raises(DataLoss, match=rf"{item.item_id}.*do not match their checksum"):
                    reader.read(item)
        else:
            assert reader.read(item).pixels.shape == (200, 200)
    assert [gop.size // FRAME_BYTES for gop in reader._cache._begun.values()] == [6, 6, 2]
