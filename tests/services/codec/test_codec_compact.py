import io
import zipfile

import cv2
import numpy as np
import pytest
from codec_parts import draw_parts
from PIL import Image
from test_codec_encode import Recorder

from services.codec import compact
from services.codec.changes import Change, NewItem
from services.codec.compact import Compactor
from services.codec.litter import list_grounds
from services.codec.segments import PACKED
from services.codec.stills import decode_still, encode_still, encode_stills
from services.runtime.errors import Cancelled, DataLoss
from services.runtime.sweep import sweep

GRACE_S = 86_400.0


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture
def filled(datasets):
    """Twelve parts appended one by one, each with a mask, and some that are like nothing else."""
    datasets.create("parts")
    mask = np.full((200, 200), 255, np.uint8)
    for n, picture in enumerate(draw_parts(12)):
        datasets.append("parts", [NewItem(f"part-{n:02d}", picture, 1, mask=mask)])
    odd = [noise((30, 40, 3)), noise((31, 40, 4)), noise((20, 20), np.uint16), noise((5, 7))]
    datasets.append("parts", [NewItem(f"odd-{n}", pixels, 1) for n, pixels in enumerate(odd)])
    return datasets


def read_all(datasets):
    snapshot = datasets.open("parts")
    assert all(item.mask is None or datasets.read_mask(snapshot, item).all() for item in snapshot.items.values())
    return {name: datasets.read_pixels(snapshot, item) for name, item in snapshot.items.items()}


def run(datasets, progress=None):
    return Compactor(datasets, progress or Recorder(), 2).compact("parts")


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_every_pixel_stays_in_fewer_and_smaller_segments(filled, open_datasets, store):
    before = read_all(filled)
    order = list(filled.open("parts").items)
    made = run(filled)
    fresh = open_datasets(store)
    assert same(read_all(fresh), before)
    snapshot = fresh.open("parts")
    assert list(snapshot.items) == order
    assert made.moved_count == 16
    assert made.unreadable == ()
    assert made.bytes_after < 0.9 * made.bytes_before
    assert snapshot.body["stored_bytes"] == made.bytes_after
    assert len({item.place.segment for item in snapshot.items.values()}) == 2  # a video, and the odd ones


def test_what_is_stored_is_counted_to_the_byte(filled, store):
    run(filled)
    for ground in list_grounds(store):
        sweep(ground, GRACE_S, now_s=4e9)
    keys = [key for key in store.list("datasets") if "/segments/" in key]
    assert sum(len(store.get(key)) for key in keys) == filled.open("parts").body["stored_bytes"]


def test_what_was_moved_from_is_swept_only_after_the_grace(filled, store, open_datasets):
    import time

    old = filled.open("parts")
    run(filled)
    before = read_all(filled)

    def sweep_at(graces):
        now_s = time.time() + graces * GRACE_S
        return [key for ground in list_grounds(store) for key in sweep(ground, GRACE_S, now_s)]

    assert sweep_at(0.9) == []
    assert all(filled.read_pixels(old, item) is not None for item in old.items.values())
    assert sum(key.endswith((".png", ".mp4")) for key in sweep_at(2.1) if "/segments/" in key) == 16
    assert same(read_all(open_datasets(store)), before)


def test_a_second_compaction_takes_only_what_came_since(filled):
    run(filled)
    assert run(filled).moved_count == 0
    filled.append("parts", [NewItem("late", draw_parts(1, 99)[0], 1)])
    assert run(filled).moved_count == 1
    assert all(item.place.segment.startswith(PACKED) for item in filled.open("parts").items.values())


@pytest.mark.parametrize("stop_after", [3, 16, 17])
def test_a_killed_compaction_leaves_a_whole_data_set_and_the_next_goes_on(filled, monkeypatch, stop_after):
    monkeypatch.setattr(compact, "RUN_ITEMS", 5)
    before = read_all(filled)
    with pytest.raises(Cancelled):
        run(filled, Recorder(stop_after))
    assert same(read_all(filled), before)
    run(filled)
    assert same(read_all(filled), before)
    assert all(item.place.segment.startswith(PACKED) for item in filled.open("parts").items.values())


def test_what_others_change_meanwhile_stays_changed_and_etags_stay(filled):
    class Busy(Recorder):
        def report(self, phase, done, total):
            if phase == "writing segments" and done == 0:
                filled.update("parts", [Change("part-03", labels=("bent",))])
                filled.append("parts", [NewItem("late", noise((40, 40)), 1)])
            super().report(phase, done, total)

    etag = filled.open("parts").items["part-04"].etag
    run(filled, Busy())
    items = filled.open("parts").items
    assert items["part-03"].labels == ("bent",)
    assert items["part-03"].place.segment.startswith(PACKED)
    assert "late" in items
    assert isinstance(filled.update("parts", [Change("part-04", etag=etag, group="a")])[0], type(items["part-04"]))


def test_twins_stay_twins(filled):
    twin = draw_parts(12)[2]
    filled.append("parts", [NewItem("twin", twin, 1)])
    run(filled)
    items = filled.open("parts").items
    assert items["twin"].place == items["part-02"].place


def test_a_damaged_item_stays_where_it_is_and_is_named(filled, store):
    snapshot = filled.open("parts")
    place = snapshot.items["part-05"].place
    key = f"{snapshot.folder}/segments/{filled.segments(snapshot).read_index(place.segment).file}"
    store.put(key, store.get(key)[:-30])
    made = run(filled)
    assert made.unreadable == ("part-05",)
    assert filled.open("parts").items["part-05"].place == place


@pytest.mark.parametrize("shape", [(9, 7), (30, 20, 3), (30, 20, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_stills_come_back_exactly_and_open_without_us(shape, dtype):
    images = [noise(shape, dtype, seed) for seed in range(3)]
    images[0][..., -1] = 0  # of four channels: transparent, and yet every colour stays
    data, stills = encode_stills(images)
    for pixels, still in zip(images, stills, strict=True):
        assert np.array_equal(decode_still(still, data[still.start : still.end]), pixels)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name.split(".")[0] for name in names] == ["00000", "00001", "00002"]
        first = archive.read(names[1])
    if dtype == np.uint8:
        assert Image.open(io.BytesIO(first)).size == (shape[1], shape[0])
    else:
        assert cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_UNCHANGED).shape == images[1].shape


@pytest.mark.parametrize("kind", ["cut", "flipped"])
def test_a_damaged_still_is_noticed_and_names_its_item(filled, store, open_datasets, kind):
    run(filled)
    snapshot = filled.open("parts")
    item = snapshot.items["odd-0"]
    index = filled.segments(snapshot).read_index(item.place.segment)
    still = index.stills[item.place.frame]
    key = f"{snapshot.folder}/segments/{index.file}"
    data = bytearray(store.get(key))
    data[still.end - 9] ^= 4
    store.put(key, bytes(data if kind == "flipped" else data[: still.end - 9]))
    fresh = open_datasets(store)
    with pytest.raises(DataLoss, match="'odd-0'"):
        fresh.read_pixels(fresh.open("parts"), item)


def test_what_webp_cannot_hold_is_png():
    assert encode_still(noise((4, 4)))[0] == "webp"
    assert encode_still(noise((4, 4), np.uint16))[0] == "png"
    assert encode_still(np.zeros((1, 16_384), np.uint8))[0] == "png"
