import time

import pytest
from anomaly_vectors import FLAT, check_rows, embed

from services.anomaly.catalogue import Catalogue
from services.anomaly.entries import About, Reference
from services.anomaly.litter import list_grounds
from services.runtime.store import Store
from services.runtime.sweep import sweep
from tests.sweeping import check_that_it_sweeps

GRACE_S = 3600.0
ABOUT = About("patch", {}, "small", "none", "", "parts", "", "2026-01-01T00:00:00+00:00")


@pytest.fixture
def store(tmp_path):
    return Store.open(f"file://{tmp_path / 'store'}").prefixed("anomaly")


@pytest.fixture
def catalogue(store):
    return Catalogue.open(store)


def sweep_all(store, graces_later):
    now_s = time.time() + graces_later * GRACE_S
    return [key for ground in list_grounds(store) for key in sweep(ground, GRACE_S, now_s)]


def test_a_segment_that_a_killed_enrolment_left_goes_and_the_bank_stays_whole(store, catalogue):
    entry = catalogue.add("screws", ABOUT, b"model", "op")
    bank = catalogue.open_bank(entry, FLAT)
    for number in range(5):
        bank.enroll([(f"item {number}", "", embed(number, count=4))])
    bank.forget(["item 2"])
    store.create(f"{entry.folder}/bank/segments/orphan", b"")
    assert sweep_all(store, 1.9) == []
    assert sweep_all(store, 2.1) == ["segments/orphan"]
    assert sweep_all(store, 1000) == []
    again = catalogue.open_bank(entry, FLAT)
    assert again.snapshot.items == {"item 0", "item 1", "item 3", "item 4"}
    check_rows(again)


def test_a_version_that_no_catalogue_names_goes_with_its_bank(store, catalogue):
    gone = catalogue.add("screws", ABOUT, b"old", "op 1")
    catalogue.delete(Reference("screws"))
    kept = catalogue.add("screws", ABOUT, b"new", "op 2")
    store.create(f"{gone.folder}/bank/segments/straggler", b"somebody was still enrolling")
    store.create("versions/screws/killed/model.safetensors", b"the training was killed")
    assert len(sweep_all(store, 2.1)) == 2
    assert catalogue.load_model(catalogue.read().find(Reference("screws"))) == b"new"
    assert store.list("versions") == [f"{kept.folder}/model.safetensors"]


async def test_the_service_sweeps_by_itself(serve, store, catalogue, tmp_path):
    from services.anomaly.__main__ import OPENING

    catalogue.announce("screws")
    orphan = "versions/screws/killed/model.safetensors"
    await check_that_it_sweeps(serve, OPENING, store, tmp_path / "store" / "anomaly", orphan)
