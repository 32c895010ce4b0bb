import hashlib
import json
import threading

import faiss
import numpy as np
import pytest
import safetensors.numpy
from anomaly_parts import open_bank
from anomaly_vectors import CELLS, FLAT, GRID, SMALL, check_rows, embed, search_plainly

from services.anomaly.bank import Bank
from services.anomaly.census import take_census
from services.anomaly.compaction import Sizes
from services.anomaly.engines.engine import Embedding, Layout
from services.anomaly.rows import Rows
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

COSINE = Layout("cosine", 8)
LARGE = Sizes(quick_bytes=400, indexed_rows=1000)
QUERY = embed(9999, count=200)
ONE_A_CELL = embed(9998)


@pytest.fixture
def store():
    return Store.open("memory://")


def look(snapshot, query=QUERY):
    found = snapshot.nearest(query.vectors, query.cells)
    return list(zip(found.distances.tolist(), found.items, strict=True))


def contribute(first, count, category=""):
    """Items as `check_rows` knows them."""
    return [(f"item {number}", category, embed(number, count=4)) for number in range(first, first + count)]


def crowd(items=60, rows=50):
    """A bank's worth of vectors in lumps: every item has some of each."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(12, 8)) * 2
    cells = np.zeros(rows, np.int32)
    return [
        (f"item {number}", "", Embedding(_scatter(random, centres[random.integers(12, size=rows)]), cells, GRID))
        for number in range(items)
    ]


def _scatter(random, centres):
    return (centres + random.normal(size=centres.shape)).astype(np.float16)


def compact(bank):
    while bank.compact():
        pass


def fill(bank, contributions, step=1):
    for start in range(0, len(contributions), step):
        bank.enroll(contributions[start : start + step])


class Stuck:
    """A store that waits before it writes."""

    def __init__(self, store):
        self._store, self.reached, self.go = store, threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, key, data):
        self.reached.set()
        assert self.go.wait(30)
        return self._store.create(key, data)


@pytest.fixture
def held(store):
    """A bank that is compacting, at the point where its new segment is about to be written: `held(bank's sizes)`."""
    stuck, threads = Stuck(store), []

    def hold(sizes):
        bank = Bank(stuck, ManifestLog(store, "log"), FLAT, sizes=sizes)
        done = []
        threads.append(threading.Thread(target=lambda: done.append(bank.compact())))
        threads[0].start()
        assert stuck.reached.wait(30)

        def release():
            stuck.go.set()
            threads[0].join()
            return done[0]

        return bank, release

    yield hold
    stuck.go.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("layout", [FLAT, COSINE])
def test_the_recall_that_is_stated_is_what_a_search_reaches(store, layout):
    contributions = crowd()
    bank = open_bank(layout, store, LARGE)
    fill(bank, contributions, step=20)
    compact(bank)
    (segment,) = bank.snapshot.segments
    assert segment.inverted.probes < len(segment.inverted.centroids)  # else there is nothing to measure
    stated = take_census(ManifestLog(store, "log").latest()).recall
    assert stated == segment.inverted.recall >= 0.99
    hits = []
    for item, _, embedding in contributions:
        others = np.concatenate([other.vectors for name, _, other in contributions if name != item]).astype(np.float32)
        difference = embedding.vectors.astype(np.float32)[:, None] - others
        exact = np.sqrt((difference * difference).sum(axis=2)).min(axis=1)
        found = bank.snapshot.nearest(embedding.vectors, embedding.cells, frozenset({item}))
        hits += (found.distances <= exact).tolist()
    assert len(hits) == 3000
    assert abs(np.mean(hits) - stated) < 0.012  # of 1,024 draws at .99, four standard deviations


def test_what_a_search_by_lists_returns_is_an_exact_distance_to_the_item_it_names():
    contributions = crowd()
    bank = open_bank(FLAT, sizes=LARGE)
    fill(bank, contributions, step=20)
    compact(bank)
    query = Embedding(QUERY.vectors[:40], QUERY.cells[:40], GRID)
    exact = search_plainly(contributions, query, by_position=False)
    vectors = {item: embedding.vectors for item, _, embedding in contributions}
    agree = 0
    for vector, (distance, item), (nearest, _) in zip(query.vectors, look(bank.snapshot, query), exact, strict=True):
        difference = vectors[item].astype(np.float32) - vector.astype(np.float32)
        assert distance == pytest.approx(np.sqrt((difference * difference).sum(axis=1)).min())
        agree += distance == pytest.approx(nearest)
    assert agree >= 38


def test_replicas_search_the_same_index_and_answer_with_identical_bits(store):
    here = open_bank(FLAT, store, LARGE)
    fill(here, crowd(), step=20)
    compact(here)
    there = open_bank(FLAT, store)
    indices = [faiss.serialize_index(bank.snapshot.segments[0].index._index) for bank in (here, there)]
    assert (indices[0] == indices[1]).all()
    assert look(here.snapshot) == look(there.snapshot)


def test_forgotten_and_excluded_items_are_not_found_in_lists():
    contributions = crowd()
    bank = open_bank(FLAT, sizes=LARGE)
    fill(bank, contributions, step=20)
    compact(bank)
    bank.forget([f"item {number}" for number in range(59)])
    assert {item for _, item in look(bank.snapshot)} == {"item 59"}
    exact = search_plainly(contributions[59:], QUERY, by_position=False)
    assert [distance for distance, _ in look(bank.snapshot)] == pytest.approx([distance for distance, _ in exact])


@pytest.mark.parametrize("layout", [FLAT, CELLS])
def test_compaction_changes_no_answer_of_a_small_bank(layout):
    sizes = Sizes(quick_bytes=400)
    bank, untouched = open_bank(layout, sizes=sizes), open_bank(layout)
    for one in (bank, untouched):
        fill(one, contribute(0, 60), step=2)
        one.forget([f"item {number}" for number in range(0, 60, 7)])
    compact(bank)
    assert len(bank.snapshot.segments) <= 8
    assert not bank.snapshot.forgotten
    query = ONE_A_CELL if layout is CELLS else QUERY
    assert look(bank.snapshot, query) == look(untouched.snapshot, query)
    check_rows(bank)


def test_what_was_made_of_the_items_is_kept_when_they_are_compacted():
    bank = open_bank(FLAT, sizes=SMALL)
    fill(bank, contribute(0, 40))
    made = bank.snapshot.remember(lambda normals, exclude: object())
    version = bank.snapshot.version
    assert bank.compact()
    assert bank.snapshot.version == version + 1
    assert bank.snapshot.remember(lambda normals, exclude: object()) is made


def test_compaction_keeps_categories_apart_and_changes_no_answer(store):
    bank, untouched = open_bank(FLAT, store, SMALL), open_bank(FLAT)
    for one in (bank, untouched):
        for number in range(80):
            one.enroll(contribute(number, 1, "bolt" if number % 2 else "nut"))
        one.forget([f"item {number}" for number in range(0, 80, 7)])
    before = len(bank.snapshot.segments)
    compact(bank)
    assert len(bank.snapshot.segments) < before
    assert not bank.snapshot.forgotten
    for each in (bank, open_bank(FLAT, store)):
        check_rows(each)
        for category in ("bolt", "nut"):
            assert each.snapshot.of(category).items == untouched.snapshot.of(category).items
            assert look(each.snapshot.of(category)) == look(untouched.snapshot.of(category))


def test_what_was_made_of_a_category_is_kept_until_it_changes():
    bank = open_bank(FLAT, sizes=SMALL)
    fill(bank, contribute(0, 40, "bolt"))
    bank.enroll(contribute(100, 1, "nut"))

    def recall(category):
        return bank.snapshot.of(category).remember(lambda normals, exclude: object())

    bolt, nut = recall("bolt"), recall("nut")
    bank.enroll(contribute(101, 1, "nut"))
    assert recall("bolt") is bolt
    assert recall("nut") is not nut
    compact(bank)
    assert recall("bolt") is bolt
    bank.forget(["item 3"])
    assert recall("bolt") is not bolt


def test_a_forgotten_vector_leaves_the_store(store):
    bank = open_bank(FLAT, store, SMALL)
    fill(bank, contribute(0, 40))
    compact(bank)

    def find(number):
        needle = embed(number, count=4).vectors[2].tobytes()
        return [key for key in store.list("segments") if needle in store.get(key)]

    assert find(3)
    bank.forget(["item 3"])
    assert find(3)  # so far it only counts no more
    compact(bank)
    assert not find(3)
    assert find(4)
    check_rows(bank)


def test_an_item_that_was_forgotten_and_enrolled_again_outlives_compaction(store):
    bank = open_bank(FLAT, store, SMALL)
    fill(bank, contribute(0, 20))
    bank.forget(["item 3"])
    bank.enroll(contribute(3, 1))
    fill(bank, contribute(20, 20))
    compact(bank)
    assert bank.snapshot.items == {f"item {number}" for number in range(40)}
    check_rows(bank)
    check_rows(open_bank(FLAT, store))


def test_who_enrolls_and_forgets_while_a_bank_is_compacted_neither_waits_nor_is_undone(store, held):
    fill(open_bank(FLAT, store, SMALL), contribute(0, 40))
    bank, release = held(SMALL)
    other = open_bank(FLAT, store, SMALL)
    for number in range(40, 60):
        other.enroll(contribute(number, 1))
    other.forget(["item 1", "item 41", "item 2"])
    other.enroll(contribute(2, 1))
    assert release()  # what others enrolled meanwhile has not made the work worthless
    assert bank.snapshot.items == {f"item {number}" for number in range(60) if number not in (1, 41)}
    for each in (bank, open_bank(FLAT, store, SMALL)):
        compact(each)
        check_rows(each)
        assert each.snapshot.items == bank.snapshot.items


def test_of_two_who_compact_the_same_one_wins_and_the_other_leaves_nothing_behind(store, held):
    fill(open_bank(FLAT, store, SMALL), contribute(0, 40))
    bank, release = held(SMALL)
    winner = open_bank(FLAT, store, SMALL)
    assert winner.compact()
    assert not release()
    assert sorted(store.list("segments")) == sorted(segment.key for segment in winner.snapshot.segments)
    assert bank.refresh().version == winner.snapshot.version
    check_rows(bank)


def test_a_segment_from_before_there_were_lists_is_read_and_gets_them(store):
    rows = Rows.of((item, embedding) for item, _, embedding in crowd())
    tensors = {"owners": rows.owners, "cells": rows.cells, "vectors": rows.vectors}
    data = safetensors.numpy.save(tensors, metadata={"items": json.dumps(rows.items)})
    store.create("segments/old", data)
    entry = {"key": "segments/old", "sha256": hashlib.sha256(data).hexdigest()}
    log = ManifestLog(store, "log")
    log.commit(1, {"items": 60, "vectors": 3000, "segments": [entry], "forgotten": {"segments/old": ["item 7"]}})
    bank = open_bank(FLAT, store, LARGE)
    assert take_census(log.latest()).recall == 1
    alike = crowd(64)[60][2]
    exact = look(bank.snapshot, alike)
    compact(bank)
    assert take_census(log.latest()).recalls == (bank.snapshot.segments[0].inverted.recall,)
    assert take_census(log.latest()).vectors == 2950
    assert store.list("segments") == [bank.snapshot.segments[0].key]
    assert sum(found == wanted for found, wanted in zip(look(bank.snapshot, alike), exact, strict=True)) >= 48  # of 50


def test_an_enrolment_never_writes_a_large_segment_again(store):
    bank = open_bank(FLAT, store, SMALL)
    fill(bank, contribute(0, 100))
    compact(bank)
    settled = bank.snapshot.segments[0]
    assert len(store.get(settled.key)) > 5000
    sent = []
    spied = Spy(store, sent)
    busy = Bank(spied, ManifestLog(store, "log"), FLAT, sizes=SMALL)
    for number in range(100, 160):
        busy.enroll(contribute(number, 1))
    busy.forget(["item 0"])
    assert busy.snapshot.segments[0].key == settled.key
    assert max(sent) < 2000


class Spy:
    def __init__(self, store, sent):
        self._store, self._sent = store, sent

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, key, data):
        self._sent.append(len(data))
        return self._store.create(key, data)


def test_a_bank_with_nothing_to_compact_is_left_alone():
    bank = open_bank(FLAT)
    assert not bank.compact()
    bank.enroll(contribute(0, 3))
    version = bank.snapshot.version
    assert not bank.compact()
    assert bank.snapshot.version == version
