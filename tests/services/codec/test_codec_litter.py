import os
import time

import numpy as np
import pytest

from services.codec.changes import Appended, Change, NewItem
from services.codec.dataset import Datasets
from services.codec.litter import list_grounds
from services.codec.segments import Named
from services.codec.stills import encode_png
from services.runtime.errors import DataLoss, NotFound, Unavailable
from services.runtime.manifest import ManifestLog
from services.runtime.sweep import sweep
from tests.sweeping import check_that_it_sweeps

GRACE_S = 3600.0


def make_items(count, first=0):
    pixels = [np.full((20, 24), number, np.uint8) for number in range(first, first + count)]
    mask = np.full((20, 24), 255, np.uint8)
    return [NewItem(f"part-{number}", one, one.nbytes, mask=mask) for number, one in enumerate(pixels, start=first)]


def sweep_all(store, graces_later):
    """Sweeps as if so many graces had passed."""
    now_s = time.time() + graces_later * GRACE_S
    return [key for ground in list_grounds(store) for key in sweep(ground, GRACE_S, now_s)]


def list_kind(store, kind):
    return [key for key in store.list("datasets") if f"/{kind}/" in key]


def read_all(datasets, name="parts"):
    snapshot = datasets.open(name)
    assert all(datasets.read_mask(snapshot, item) is not None for item in snapshot.items.values())
    return {item_id: datasets.read_pixels(snapshot, item) for item_id, item in snapshot.items.items()}


@pytest.fixture
def filled(datasets):
    datasets.create("parts")
    datasets.append("parts", make_items(3))
    return datasets


def test_chunks_that_updates_left_go_and_every_item_stays_readable(filled, store, open_datasets):
    for number in range(10):
        filled.update("parts", [Change("part-0", group=f"day {number}")])
    assert len(list_kind(store, "items")) == 22  # each with its copy
    assert sweep_all(store, 1.9) == []
    assert len(sweep_all(store, 2.1)) == 20
    fresh = open_datasets(store)
    assert len(read_all(fresh)) == 3
    assert fresh.open("parts").items["part-0"].group == "day 9"
    assert sweep_all(store, 1000) == []


def test_what_a_killed_append_left_goes_and_trying_again_does_not_build_upon_it(filled, store, open_datasets):
    late = make_items(3, first=10)
    snapshot = filled.open("parts")
    named = [Named(item.item_id, "", item.pixels) for item in late]
    places, _ = filled.segments(snapshot).write_exact(named)  # and then it was killed
    answers = filled.append("parts", late)
    assert {answer.item.place.segment for answer in answers}.isdisjoint(place.segment for place in places)
    gone = sweep_all(store, 2.1)
    assert (
        sorted(key.rpartition("/")[2].partition(".")[0] for key in gone if "/segments/" in key)
        == [places[0].segment] * 3
    )
    assert len(read_all(open_datasets(store))) == 6


def test_an_append_that_took_longer_than_the_grace_is_refused_and_changes_nothing(filled, store):
    slow = Datasets(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), grace_s=0)
    with pytest.raises(Unavailable, match="try again"):
        slow.append("parts", make_items(1, first=5))
    assert len(filled.open("parts").items) == 3
    assert all(isinstance(answer, Appended) for answer in filled.append("parts", make_items(1, first=5)))


def test_a_mask_that_was_replaced_goes_and_one_that_took_longer_than_the_grace_is_refused(filled, store):
    masks = [np.full((20, 24), value, np.uint8) for value in (0, 255)]
    places = [filled.update("parts", [Change("part-0", mask_png=encode_png(mask))])[0].mask for mask in masks]
    gone = {key.rpartition("/")[2].partition(".")[0] for key in sweep_all(store, 2.1) if "/segments/" in key}
    assert places[0].segment in gone
    assert places[1].segment not in gone
    slow = Datasets(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), grace_s=0)
    with pytest.raises(Unavailable, match="try again"):
        slow.update("parts", [Change("part-0", mask_png=encode_png(masks[0]))])
    assert filled.open("parts").items["part-0"].mask == places[1]


def test_an_encoding_is_kept_while_it_is_written_or_named_and_goes_whole(filled, store, tmp_path):
    folder = filled.open("parts").folder
    for token in ("named", "unpublished", "running"):
        for name in ("a.mp4", "b.mp4"):
            store.create(f"{folder}/encodings/{token}/{name}", b"")
    old_s = time.time() - 3 * GRACE_S
    for path in tmp_path.glob("store/codec/datasets/**/encodings/*/*.mp4"):
        if (path.parent.name, path.name) != ("running", "b.mp4"):
            os.utime(path, (old_s, old_s))
    entry = {"encoding_id": "prepared-1", "token": "named"}
    filled.commit(filled.open("parts"), lambda newest: {**newest.body, "encodings": [entry]})
    sweep_all(store, 0)
    left = {tuple(key.split("/")[-2:]) for key in list_kind(store, "encodings")}
    assert left == {(token, name) for token in ("named", "running") for name in ("a.mp4", "b.mp4")}


def test_what_a_deletion_left_goes_and_a_data_set_of_the_same_name_stays(filled, store, open_datasets):
    old = filled.open("parts")
    filled.delete("parts")
    store.create(f"{old.folder}/segments/straggler.mp4", b"somebody was still writing")
    assert len(sweep_all(store, 2.1)) == 1
    filled.create("parts")
    filled.append("parts", make_items(2, first=5))
    store.create(f"{old.folder}/segments/straggler.mp4", b"somebody was still writing")
    assert len(sweep_all(store, 2.1)) == 1
    assert len(read_all(open_datasets(store))) == 2
    filled.delete("parts")
    assert sweep_all(store, 2.1) == []
    with pytest.raises(NotFound):
        open_datasets(store).open("parts")


def test_where_a_list_of_items_is_lost_nothing_is_deleted(filled, store):
    filled.update("parts", [Change("part-0", group="monday")])
    snapshot = filled.open("parts")
    for ending in ("json", "copy"):
        store.delete(f"{snapshot.folder}/{snapshot.body['chunks'][0].replace('json', ending)}")
    before = store.list("datasets")
    with pytest.raises(DataLoss):
        sweep_all(store, 1000)
    assert store.list("datasets") == before


async def test_the_service_sweeps_by_itself(serve, store, tmp_path):
    from services.codec.__main__ import OPENING

    datasets = Datasets(store, lambda prefix: ManifestLog(store, prefix, has_copies=True))
    datasets.create("parts")
    orphan = f"{datasets.open('parts').folder}/segments/orphan.mp4"
    await check_that_it_sweeps(serve, OPENING, store, tmp_path / "store" / "codec", orphan, u2net_home="/nowhere")
