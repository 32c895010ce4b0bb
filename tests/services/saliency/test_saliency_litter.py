import time

import pytest

from services.runtime.store import Store
from services.runtime.sweep import sweep
from services.saliency.catalogue import About, Catalogue
from services.saliency.litter import list_grounds
from tests.sweeping import check_that_it_sweeps

GRACE_S = 3600.0
ABOUT = About(("bad", "good"), "small", "none", "", 64, 1.0, "item", 8, 2, 1, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def store(tmp_path):
    return Store.open(f"file://{tmp_path / 'store'}").prefixed("saliency")


def sweep_all(store, graces_later):
    now_s = time.time() + graces_later * GRACE_S
    return [key for ground in list_grounds(store) for key in sweep(ground, GRACE_S, now_s)]


def test_tensors_of_a_killed_training_go_and_those_that_serve_stay(store):
    catalogue = Catalogue.open(store)
    old, new = (catalogue.add("parts", ABOUT, name.encode(), name) for name in ("op-1", "op-2"))
    store.create("tensors/parts/orphan.safetensors", b"its training was killed")
    assert sweep_all(store, 1.9) == []
    assert sweep_all(store, 2.1) == ["tensors/parts/orphan.safetensors"]
    assert sweep_all(store, 1000) == []
    assert (catalogue.load(old), catalogue.load(new)) == (b"op-1", b"op-2")


def test_a_deletion_leaves_the_tensors_of_a_training_that_ends_just_then(store):
    catalogue = Catalogue.open(store)
    catalogue.add("parts", ABOUT, b"old", "op-1")
    store.create("tensors/parts/just-written.safetensors", b"new")
    catalogue.delete("parts")
    assert store.list("tensors") == ["tensors/parts/just-written.safetensors"]


async def test_the_service_sweeps_by_itself(serve, store, tmp_path):
    from services.saliency.__main__ import OPENING

    Catalogue.open(store).announce("parts")
    orphan = "tensors/parts/killed.safetensors"
    await check_that_it_sweeps(serve, OPENING, store, tmp_path / "store" / "saliency", orphan)
