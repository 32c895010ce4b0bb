import threading
from dataclasses import replace

import numpy as np
import pytest

from services.codec.changes import Appended, Change, NewItem
from services.codec.items import UNKNOWN, Annotation
from services.codec.stills import encode_png
from services.runtime.errors import AlreadyExists, Conflict, DataLoss, NotFound

SHAPES = [
    ((40, 48), "u1"),
    ((33, 65), "u1"),
    ((40, 48, 3), "u1"),
    ((33, 65, 3), "u1"),
    ((20, 24, 4), "u1"),
    ((24, 31), "u2"),
    ((24, 31, 3), "u2"),
    ((17, 19, 4), "u2"),
    ((1, 1), "u1"),
    ((3, 7, 3), "u1"),
]


def make_pixels(shape, dtype="u1", seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def make_items(count, first=0, **fields):
    return [
        NewItem(f"part-{n:04d}", make_pixels((32, 40), seed=n), 1280, **fields) for n in range(first, first + count)
    ]


@pytest.fixture
def filled(datasets):
    datasets.create("parts")
    datasets.append("parts", make_items(5, labels=("good",), split="train"))
    return datasets


def read_all(datasets, name="parts"):
    snapshot = datasets.open(name)
    return {item_id: datasets.read_pixels(snapshot, item) for item_id, item in snapshot.items.items()}


@pytest.mark.parametrize("count", [1, 3])
def test_every_kind_of_pixel_comes_back_exactly(datasets, count):
    datasets.create("parts")
    sent = {}
    for kind, (shape, dtype) in enumerate(SHAPES):
        for n in range(count):
            sent[f"{kind}-{n}"] = make_pixels(shape, dtype, seed=100 * kind + n)
    answers = datasets.append("parts", [NewItem(name, pixels, pixels.nbytes) for name, pixels in sent.items()])
    assert [(answer.item.item_id, answer.duplicate) for answer in answers] == [(name, False) for name in sent]
    for name, pixels in read_all(datasets).items():
        assert pixels.dtype == sent[name].dtype
        assert np.array_equal(pixels, sent[name])


def test_another_process_sees_what_was_appended(filled, store, open_datasets):
    other = open_datasets(store)
    assert list(other.open("parts").items) == [f"part-{n:04d}" for n in range(5)]
    assert len(read_all(other)) == 5


def test_the_same_pixels_again_are_a_duplicate_and_change_nothing(filled):
    before = filled.open("parts").number
    answers = filled.append("parts", make_items(2))
    assert all(answer.duplicate for answer in answers)
    assert filled.open("parts").number == before


def test_other_pixels_under_a_taken_name_are_refused_and_the_rest_is_kept(filled):
    liar = NewItem("part-0001", make_pixels((32, 40), seed=99), 1280)
    answers = filled.append("parts", [liar, *make_items(1, first=7)])
    assert isinstance(answers[0], AlreadyExists)
    assert not answers[1].duplicate
    assert np.array_equal(read_all(filled)["part-0001"], make_pixels((32, 40), seed=1))


def test_the_same_bytes_in_another_shape_are_other_pixels(filled):
    turned = NewItem("part-0001", make_pixels((32, 40), seed=1).reshape(40, 32), 1280)
    assert isinstance(filled.append("parts", [turned])[0], AlreadyExists)


def test_one_name_twice_in_one_batch_is_stored_once(datasets):
    datasets.create("parts")
    first, second, third = (NewItem("a", make_pixels((20, 20), seed=n), 400) for n in (1, 1, 2))
    answers = datasets.append("parts", [first, second, third])
    assert [getattr(answer, "duplicate", None) for answer in answers] == [False, True, None]


def test_the_counts_are_those_of_the_items(filled):
    filled.append("parts", make_items(2, first=5, labels=("bad", "bent"), split="test"))
    body = filled.open("parts").body
    assert (body["item_count"], body["original_bytes"]) == (7, 7 * 1280)
    assert body["label_counts"] == {"good": 5, "bad": 2, "bent": 2}
    assert body["split_counts"] == {"train": 5, "test": 2}
    assert body["stored_bytes"] > 0


def test_a_name_is_taken_once_and_free_again_after_deletion(filled, store):
    with pytest.raises(AlreadyExists):
        filled.create("parts")
    number = filled.open("parts").number
    filled.delete("parts")
    with pytest.raises(NotFound):
        filled.open("parts")
    assert filled.list_names() == []
    assert [key for key in store.list("datasets") if "/log/" not in key] == []
    filled.create("parts")
    assert filled.open("parts").number > number
    assert filled.open("parts").items == {}


@pytest.mark.parametrize("act", ["open", "delete"])
def test_a_data_set_that_never_was_is_not_found(datasets, act):
    with pytest.raises(NotFound, match="'nothing'"):
        getattr(datasets, act)("nothing")


def test_one_item_changes_without_its_neighbours(filled):
    box = Annotation("a1", 1, 2, 10, 12, "head", 0.9, "me", "accepted", needs_review=False)
    before = dict(filled.open("parts").items)
    [item] = filled.update("parts", [Change("part-0002", labels=("odd",), annotations=(box,))])
    after = filled.open("parts").items
    assert after["part-0002"] == item
    assert (item.labels, item.annotations, item.split) == (("odd",), (box,), "train")
    assert {k: v for k, v in after.items() if k != "part-0002"} == {k: v for k, v in before.items() if k != "part-0002"}
    assert list(after) == list(before)


def test_an_update_writes_one_chunk_and_one_manifest_and_no_pixels(datasets, store, monkeypatch):
    monkeypatch.setattr("services.codec.catalog.CHUNK_ITEMS", 4)
    datasets.create("parts")
    datasets.append("parts", make_items(10))
    before = set(store.list("datasets"))
    datasets.update("parts", [Change("part-0005", group="monday")])
    written = {key.split("/")[-2] for key in set(store.list("datasets")) - before}
    assert written == {"items", "log"}
    assert sum(key.endswith(".json") for key in set(store.list("datasets")) - before) == 2


def test_a_stale_etag_is_refused_and_a_fresh_one_accepted(filled):
    etag = filled.open("parts").items["part-0000"].etag
    [first] = filled.update("parts", [Change("part-0000", etag=etag, group="a")])
    [second] = filled.update("parts", [Change("part-0000", etag=etag, group="b")])
    assert isinstance(second, Conflict)
    assert first.etag != etag
    [third] = filled.update("parts", [Change("part-0000", etag=first.etag, group="b")])
    assert third.group == "b"


def test_an_update_of_nothing_is_not_found_and_the_others_go_through(filled):
    answers = filled.update("parts", [Change("nobody", group="a"), Change("part-0003", group="b")])
    assert isinstance(answers[0], NotFound)
    assert filled.open("parts").items["part-0003"].group == "b"


def test_concurrent_writers_lose_nothing(filled, store, open_datasets):
    def write(writer):
        own = open_datasets(store)
        for n in range(4):
            own.append("parts", [NewItem(f"{writer}-{n}", make_pixels((20, 20), seed=n), 400)])
            own.update("parts", [Change("part-0000", group=f"{writer}-{n}")])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = filled.open("parts")
    assert {f"{writer}-{n}" for writer in "abc" for n in range(4)} <= set(snapshot.items)
    assert snapshot.items["part-0000"].revision == 13


class Breaking:
    """A store that dies at its n-th write, before or after it took effect."""

    def __init__(self, store, writes, after):
        self._store, self._left, self._after = store, writes, after
        self.url, self.prefix, self.objects = store.url, store.prefix, store.objects

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _write(self, act, *args):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        if self._left == 0 and not self._after:
            raise KeyboardInterrupt
        outcome = act(*args)
        if self._left == 0:
            raise KeyboardInterrupt
        return outcome

    def create(self, key, data):
        self._write(self._store.create, key, data)

    def claim(self, key, data):
        return self._write(self._store.claim, key, data)

    def put(self, key, data):
        self._write(self._store.put, key, data)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("writes", range(1, 12))
def test_death_at_any_write_leaves_the_old_state_or_the_new(filled, store, open_datasets, writes, after):
    old = read_all(filled)
    mixed = [*make_items(3, first=10), NewItem("deep", make_pixels((20, 20), "u2"), 800)]
    died = False
    try:
        open_datasets(Breaking(store, writes, after)).append("parts", mixed)
    except KeyboardInterrupt:
        died = True
    assert died == (writes <= 10)  # a video and a PNG with an index each, a chunk, a manifest; copies of all but pixels
    found = read_all(open_datasets(store))
    new = old | {item.item_id: item.pixels for item in mixed}
    assert found.keys() in (old.keys(), new.keys())
    assert all(np.array_equal(found[name], new[name]) for name in found)
    again = open_datasets(store).append("parts", mixed)
    assert all(isinstance(answer, Appended) for answer in again)
    assert read_all(open_datasets(store)).keys() == new.keys()


def test_damage_is_noticed_named_and_leaves_the_rest_readable(filled, store):
    snapshot = filled.open("parts")
    victim = snapshot.items["part-0003"]
    segments = filled.segments(snapshot)
    index = segments.read_index(victim.place.segment)
    gop = index.video.find_gop(victim.place.frame)
    key = f"{snapshot.folder}/segments/{index.file}"
    data = bytearray(store.get(key))
    data[gop.start + 40] ^= 0xFF
    store.put(key, bytes(data))
    with pytest.raises(DataLoss, match="item 'part-0003' of 'parts' is damaged"):
        filled.read_pixels(snapshot, victim)
    rest = [item for name, item in snapshot.items.items() if name != "part-0003"]
    assert all(filled.read_pixels(snapshot, item).shape == (32, 40) for item in rest)


def test_pixels_that_are_not_those_of_the_item_are_noticed(filled, store):
    snapshot = filled.open("parts")
    item = snapshot.items["part-0000"]
    other = replace(item, place=snapshot.items["part-0001"].place)
    with pytest.raises(DataLoss, match="SHA-256"):
        filled.read_pixels(snapshot, other)


@pytest.mark.parametrize("endings", [[".mp4"], [".json", ".copy"]])
def test_a_lost_object_is_data_loss(filled, store, open_datasets, endings):
    for ending in endings:
        [key] = [key for key in store.list("datasets") if "/segments/" in key and key.endswith(ending)]
        store.delete(key)
    fresh = open_datasets(store)
    snapshot = fresh.open("parts")
    with pytest.raises(DataLoss, match=r"gone|damaged"):
        fresh.read_pixels(snapshot, snapshot.items["part-0000"])


def flip(store, key, bit=700):
    data = bytearray(store.get(key))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    store.put(key, bytes(data))


@pytest.mark.parametrize("kind", ["/items/", "/segments/", "/log/"])
def test_a_damaged_list_is_read_from_its_copy(filled, store, open_datasets, kind):
    before = read_all(filled)
    for key in store.list("datasets"):
        if kind in key and key.endswith(".json"):
            flip(store, key)
    after = read_all(open_datasets(store))
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_a_list_damaged_together_with_its_copy_is_data_loss(filled, store, open_datasets):
    for key in store.list("datasets"):
        if "/items/" in key:
            flip(store, key)
    with pytest.raises(DataLoss, match="list of items"):
        open_datasets(store).open("parts")


def test_manifests_stay_small_and_items_keep_their_order(datasets, store, monkeypatch):
    monkeypatch.setattr("services.codec.catalog.CHUNK_ITEMS", 16)
    datasets.create("parts")
    for first in range(0, 60, 12):
        datasets.append("parts", make_items(12, first=first))
    snapshot = datasets.open("parts")
    assert list(snapshot.items) == [f"part-{n:04d}" for n in range(60)]
    assert len(snapshot.body["chunks"]) == 4
    log = [key for key in store.list("datasets") if "/log/" in key]
    assert max(len(store.get(key)) for key in log) < 2000


def draw_mask(shape, row):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[row : row + 3, 4:9] = 255
    return mask


def test_masks_come_back_exactly_whatever_their_items_shapes_are(datasets):
    datasets.create("drawn")
    shapes = [(40, 32), (40, 32), (24, 60), (8, 8)]
    new = [
        NewItem(f"item {n}", np.full((*shape, 3), n, np.uint8), 1, mask=draw_mask(shape, n))
        for n, shape in enumerate(shapes)
    ]
    plain = NewItem("plain", np.zeros((40, 32), np.uint8), 1)
    assert all(not answer.duplicate for answer in datasets.append("drawn", [*new, plain]))
    snapshot = datasets.open("drawn")
    for item in new:
        assert (datasets.read_mask(snapshot, snapshot.items[item.item_id]) == item.mask).all()
        assert (datasets.read_pixels(snapshot, snapshot.items[item.item_id]) == item.pixels).all()
    assert datasets.read_mask(snapshot, snapshot.items["plain"]) is None


def test_a_duplicate_keeps_the_mask_that_it_had(datasets):
    datasets.create("drawn")
    pixels, first = np.zeros((20, 20), np.uint8), draw_mask((20, 20), 2)
    twice = [NewItem("a", pixels, 1, mask=first), NewItem("a", pixels, 1, mask=255 - first)]
    assert [answer.duplicate for answer in datasets.append("drawn", twice)] == [False, True]
    datasets.append("drawn", [NewItem("a", pixels, 1, mask=255 - first)])
    snapshot = datasets.open("drawn")
    assert (datasets.read_mask(snapshot, snapshot.items["a"]) == first).all()


def scribble(shape, row):
    trimap = np.full(shape, UNKNOWN, np.uint8)
    trimap[row, :5], trimap[row + 1] = 255, 0
    return trimap


def test_a_mask_is_set_replaced_and_cleared_and_what_is_stored_is_counted(datasets):
    datasets.create("drawn")
    datasets.append("drawn", [NewItem(name, np.zeros((20, 20), np.uint8), 1) for name in "ab"])
    bare = datasets.open("drawn").body["stored_bytes"]
    etags = set()
    for drawn in (draw_mask((20, 20), 2), scribble((20, 20), 3), scribble((20, 20), 9)):
        (item,) = datasets.update("drawn", [Change("a", mask_png=encode_png(drawn))])
        snapshot = datasets.open("drawn")
        assert (datasets.read_mask(snapshot, snapshot.items["a"]) == drawn).all()
        assert (datasets.read_pixels(snapshot, snapshot.items["a"]) == 0).all()
        assert item.mask_is_partial == (UNKNOWN in drawn)
        held = datasets.segments(snapshot).read_index(item.mask.segment).stored_bytes
        assert snapshot.body["stored_bytes"] == bare + held
        etags.add(item.etag)
    assert len(etags) == 3
    (kept,) = datasets.update("drawn", [Change("a", group="monday")])
    assert kept.mask == item.mask
    (cleared,) = datasets.update("drawn", [Change("a", mask_png=b"")])
    snapshot = datasets.open("drawn")
    assert datasets.read_mask(snapshot, cleared) is None
    assert (cleared.mask_is_partial, cleared.mask_sha256, snapshot.body["stored_bytes"]) == (False, "", bare)


def test_a_mask_that_comes_too_late_changes_nothing(datasets):
    datasets.create("drawn")
    datasets.append("drawn", [NewItem("a", np.zeros((20, 20), np.uint8), 1, mask=scribble((20, 20), 2))])
    seen = datasets.open("drawn").items["a"]
    new = Change("a", etag=seen.etag, mask_png=encode_png(draw_mask((20, 20), 5)))
    first, second = datasets.update("drawn", [replace(new, mask_png=b""), new])
    assert first.mask is None
    assert isinstance(second, Conflict)
    assert datasets.open("drawn").items["a"] == first


def test_a_damaged_mask_is_named(datasets, store):
    datasets.create("drawn")
    datasets.append("drawn", [NewItem("a", np.zeros((20, 20), np.uint8), 1, mask=draw_mask((20, 20), 2))])
    snapshot = datasets.open("drawn")
    item = snapshot.items["a"]
    other = replace(item, mask=item.place)
    with pytest.raises(DataLoss, match="'a' of 'drawn' is damaged"):
        datasets.read_mask(snapshot, other)
    assert (datasets.read_pixels(snapshot, other) == 0).all()


def test_the_same_pixels_under_another_name_are_stored_once(filled):
    before = filled.open("parts").body["stored_bytes"]
    twins = [replace(item, item_id=f"again-{n}") for n, item in enumerate(make_items(3))]
    [first, *_] = filled.append("parts", [*twins, replace(twins[0], item_id="third")])
    assert not first.duplicate
    snapshot = filled.open("parts")
    assert snapshot.body["stored_bytes"] == before
    assert snapshot.items["again-0"].place == snapshot.items["third"].place == snapshot.items["part-0000"].place
    assert np.array_equal(filled.read_pixels(snapshot, snapshot.items["again-2"]), twins[2].pixels)


def test_two_new_names_for_the_same_pixels_share_them(datasets):
    datasets.create("parts")
    pixels = make_pixels((32, 40))
    datasets.append("parts", [NewItem(name, pixels, 1) for name in "ab"] + [NewItem("c", pixels.reshape(40, 32), 1)])
    places = {name: item.place for name, item in datasets.open("parts").items.items()}
    assert places["a"] == places["b"] != places["c"]
    assert [pixels.shape for pixels in read_all(datasets).values()] == [(32, 40), (32, 40), (40, 32)]


def test_pixels_whose_only_copy_is_damaged_are_stored_again(filled, store):
    snapshot = filled.open("parts")
    index = filled.segments(snapshot).read_index(snapshot.items["part-0000"].place.segment)
    key = f"{snapshot.folder}/segments/{index.file}"
    store.put(key, bytes(len(store.get(key))))
    [item, *_] = make_items(1)
    filled.append("parts", [replace(item, item_id="again")])
    snapshot = filled.open("parts")
    assert np.array_equal(filled.read_pixels(snapshot, snapshot.items["again"]), item.pixels)
    with pytest.raises(DataLoss):
        filled.read_pixels(snapshot, snapshot.items["part-0000"])
