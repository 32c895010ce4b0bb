import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from services.runtime.errors import DataLoss, FailedPrecondition, NotFound
from services.runtime.store import Store
from services.saliency.catalogue import About, Catalogue
from services.saliency.model import Classifier
from services.saliency.shelf import Shelf

ABOUT = About(("a", "b"), "small", "none", "", 48, 0.9, "image", 10, 4, 3, "2026-11-21T00:00:00+00:00")


def load(data):
    return Classifier.load(data, torch.device("cpu"))


@pytest.fixture
def catalogue():
    return Catalogue.open(Store.open("memory://"))


def test_versions_count_up_and_the_newest_is_found(catalogue):
    for number in (1, 2, 3):
        entry = catalogue.add("parts", ABOUT, b"%d" % number, f"op-{number}")
        assert entry.version == number
    view = catalogue.read()
    assert view.find("parts").version == 3
    assert [entry.version for entry in view.versions("parts")] == [1, 2, 3]
    assert catalogue.load(view.find("parts")) == b"3"
    assert view.find("parts").about == ABOUT


def test_an_operation_that_is_done_twice_adds_one_version(catalogue):
    first = catalogue.add("parts", ABOUT, b"once", "op")
    assert catalogue.add("parts", ABOUT, b"again", "op") == first
    assert len(catalogue.read().versions("parts")) == 1


def test_writers_at_once_lose_nothing(catalogue):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: catalogue.add(f"p{number % 3}", ABOUT, b"x", f"op-{number}"), range(24)))
    view = catalogue.read()
    assert view.names() == ["p0", "p1", "p2"]
    assert all([entry.version for entry in view.versions(name)] == list(range(1, 9)) for name in view.names())


def test_a_deleted_classifier_is_gone_with_its_tensors_and_its_numbers_are_not_used_again(catalogue):
    entry = catalogue.add("parts", ABOUT, b"x", "op-1")
    catalogue.add("other", ABOUT, b"y", "op-2")
    catalogue.delete("parts")
    with pytest.raises(NotFound):
        catalogue.read().find("parts")
    with pytest.raises(NotFound):
        catalogue.load(entry)
    with pytest.raises(NotFound):
        catalogue.delete("parts")
    assert catalogue.read().names() == ["other"]
    assert catalogue.add("parts", ABOUT, b"z", "op-3").version == 2


def test_one_in_training_is_told_apart_from_a_wrong_name(catalogue):
    catalogue.announce("soon")
    with pytest.raises(FailedPrecondition) as refusal:
        catalogue.read().find("soon")
    assert refusal.value.reason == "CLASSIFIER_UNTRAINED"
    assert catalogue.read().names() == []
    with pytest.raises(NotFound):
        catalogue.read().find("never")


def test_announcing_changes_nothing_about_one_that_serves(catalogue):
    catalogue.add("parts", ABOUT, b"x", "op")
    catalogue.announce("parts")
    assert catalogue.read().find("parts").version == 1


def test_an_assessment_lies_beside_its_version_and_goes_with_it(catalogue):
    with_one = catalogue.add("parts", ABOUT, b"x", "op-1", b"how it did")
    without = catalogue.add("parts", ABOUT, b"y", "op-2")
    assert (catalogue.load_assessment(with_one), catalogue.load_assessment(without)) == (b"how it did", b"")
    assert len(catalogue.store.list("tensors")) == 3
    catalogue.delete("parts")
    assert catalogue.store.list("tensors") == []


async def test_a_shelf_loads_each_version_once_and_keeps_the_latest_asked(catalogue, classifier):
    tensors = classifier.save()
    for name in ("a", "b", "c"):
        catalogue.add(name, ABOUT, tensors, f"op-{name}")
    shelf = Shelf(catalogue, load, capacity=2)
    taken = await asyncio.gather(*(shelf.take("a") for _ in range(8)))
    assert len({id(loaded) for _, loaded in taken}) == 1
    await shelf.take("b")
    again = (await shelf.take("a"))[1]
    assert again is taken[0][1]
    await shelf.take("c")  # b gives way, not a
    assert (await shelf.take("a"))[1] is again
    assert len(shelf._loads) == 2


async def test_a_new_version_serves_after_a_while_and_a_deleted_one_no_more(catalogue, classifier, monkeypatch):
    from services.saliency import shelf as shelf_module

    monkeypatch.setattr(shelf_module, "FOLLOW_S", 0)
    shelf = Shelf(catalogue, load, capacity=2)
    catalogue.add("parts", ABOUT, classifier.save(), "op-1")
    assert (await shelf.take("parts"))[0].version == 1
    catalogue.add("parts", ABOUT, classifier.save(), "op-2")
    assert (await shelf.take("parts"))[0].version == 2
    catalogue.delete("parts")
    with pytest.raises(NotFound):
        await shelf.take("parts")
    assert not shelf._loads


async def test_a_load_that_failed_is_tried_again(catalogue, classifier):
    entry = catalogue.add("parts", ABOUT, b"torn", "op")
    shelf = Shelf(catalogue, load, capacity=2)
    with pytest.raises(DataLoss):
        await shelf.take("parts")
    catalogue.store.put(entry.key, classifier.save())
    assert (await shelf.take("parts"))[0].version == 1
