import threading

import numpy as np
import pytest
from anomaly_parts import open_bank
from anomaly_vectors import CELLS, FLAT, GRID, embed, search_plainly
from hypothesis import given, settings
from hypothesis import strategies as st

from services.anomaly.bank import Bank
from services.anomaly.census import take_census
from services.anomaly.engines.engine import Embedding
from services.anomaly.rows import Rows
from services.anomaly.segment import Segment
from services.anomaly.segment_file import read_segment, write_segment
from services.runtime.errors import DataLoss, FailedPrecondition
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

QUERY = embed(99)


def look(snapshot, query=QUERY, exclude=frozenset()):
    found = snapshot.nearest(query.vectors, query.cells, exclude)
    return list(zip(found.distances.tolist(), found.items, strict=True))


def contribute(*names, category=""):
    return [(name, category, embed(sum(name.encode()))) for name in names]


def spread(value):
    return Embedding(np.full((3, 8), value, np.float16), np.arange(3, dtype=np.int32), GRID)


@pytest.fixture
def store():
    return Store.open("memory://")


@pytest.mark.parametrize("layout", [FLAT, CELLS])
def test_the_nearest_normal_is_the_nearest_however_the_bank_was_filled(layout):
    contributions = contribute(*"abcdefghijk")
    bank = open_bank(layout)
    for start in range(0, 11, 3):
        bank.enroll(contributions[start : start + 3])
    expected = search_plainly(contributions, QUERY, by_position=layout is CELLS)
    assert [item for _, item in look(bank.snapshot)] == [item for _, item in expected]
    assert [distance for distance, _ in look(bank.snapshot)] == pytest.approx([distance for distance, _ in expected])


@pytest.mark.parametrize("layout", [FLAT, CELLS])
def test_banks_filled_in_any_order_and_portions_answer_with_identical_bits(layout):
    contributions = contribute(*"abcdefghijklm")
    at_once, one_by_one = open_bank(layout), open_bank(layout)
    at_once.enroll(contributions)
    for contribution in reversed(contributions):
        one_by_one.enroll([contribution])
    assert look(at_once.snapshot) == look(one_by_one.snapshot)
    assert (at_once.snapshot.all_vectors() == one_by_one.snapshot.all_vectors()).all()


@pytest.mark.parametrize("layout", [FLAT, CELLS])
def test_excluded_items_are_as_good_as_never_enrolled(layout):
    contributions = contribute(*"abcdef")
    bank, without = open_bank(layout), open_bank(layout)
    bank.enroll(contributions)
    without.enroll(contributions[:2])
    assert look(bank.snapshot, exclude=frozenset("cdef")) == look(without.snapshot)
    assert look(bank.snapshot, contributions[0][2])[0] == (0.0, "a")
    assert look(bank.snapshot, contributions[0][2], frozenset("a"))[0][0] > 0


def test_exclusion_finds_the_rest_even_where_all_near_vectors_are_excluded():
    crowd = [(f"near{number:02d}", "", spread(0.01 * number)) for number in range(20)]
    far = ("far", "", spread(50))
    for layout in (FLAT, CELLS):
        bank = open_bank(layout)
        bank.enroll([*crowd, far])
        query = Embedding(np.zeros((1, 8), np.float16), np.zeros(1, np.int32), GRID)
        assert look(bank.snapshot, query, frozenset(item for item, *_ in crowd))[0][1] == "far"


def test_a_cell_without_neighbours_is_compared_with_all_cells():
    bank = open_bank(CELLS)
    bank.enroll([("corner", "", embed(1, cells=[0]))])
    assert look(bank.snapshot, embed(2, cells=[23]))[0][1] == "corner"


def test_a_cell_is_asked_for_once():
    bank = open_bank(CELLS)
    bank.enroll(contribute("a"))
    with pytest.raises(ValueError, match="at most once"):
        look(bank.snapshot, embed(2, cells=[5, 5]))


def test_enrolling_again_changes_nothing():
    bank = open_bank(FLAT)
    first = bank.enroll(contribute(*"ab"))
    again = bank.enroll(contribute(*"abc"))
    assert (first.changed, again.changed, again.unchanged) == (("a", "b"), ("c",), ("a", "b"))
    third = bank.enroll(contribute(*"abc"))
    assert (third.version, third.changed) == (again.version, ())
    assert len(bank.snapshot.all_vectors()) == 3 * 24


@pytest.mark.parametrize("layout", [FLAT, CELLS])
def test_after_forgetting_a_bank_answers_as_if_the_item_had_never_been(layout):
    contributions = contribute(*"abcdefgh")
    bank, never = open_bank(layout), open_bank(layout)
    bank.enroll(contributions)
    never.enroll(contributions[1:])
    change = bank.forget(["a", "nobody"])
    assert (change.changed, change.unchanged) == (("a",), ("nobody",))
    assert look(bank.snapshot) == look(never.snapshot)
    assert bank.snapshot.items == never.snapshot.items
    assert (bank.snapshot.all_vectors() == never.snapshot.all_vectors()).all()


def test_a_forgotten_item_can_be_enrolled_again_with_another_image():
    bank, fresh = open_bank(FLAT), open_bank(FLAT)
    bank.enroll(contribute(*"abcdef"))
    bank.forget(["a"])
    bank.enroll([("a", "", embed(5))])
    fresh.enroll([*contribute(*"bcdef"), ("a", "", embed(5))])
    assert look(bank.snapshot) == look(fresh.snapshot)


def test_a_segment_that_is_forgotten_whole_leaves_the_store_at_once(store):
    bank = open_bank(FLAT, store)
    bank.enroll(contribute(*"abcd"))
    bank.forget(list("abc"))
    assert len(store.list("segments")) == 1
    bank.forget("d")
    assert store.list("segments") == []


def test_an_empty_bank_refuses_to_answer():
    bank = open_bank(FLAT)
    with pytest.raises(FailedPrecondition, match="enroll some first") as refusal:
        look(bank.snapshot)
    assert refusal.value.reason == "BANK_EMPTY"
    bank.enroll(contribute(*"a"))
    with pytest.raises(FailedPrecondition):
        look(bank.snapshot, exclude=frozenset("a"))


def test_another_replica_follows(store):
    here, there = open_bank(FLAT, store), open_bank(FLAT, store)
    here.enroll(contribute(*"ab"))
    assert there.snapshot.items == frozenset()
    assert look(there.refresh()) == look(here.snapshot)
    there.forget(["a"])
    there.enroll(contribute(*"cd"))
    assert here.refresh().items == frozenset("bcd")
    assert here.snapshot.version == there.snapshot.version


def test_replicas_that_enroll_the_same_items_at_once_neither_lose_nor_double_any(store):
    banks = [open_bank(FLAT, store) for _ in range(4)]
    barrier = threading.Barrier(len(banks))

    def fill(bank, names):
        barrier.wait()
        for name in names:
            bank.enroll(contribute(name))

    names = ["abcdefgh", "hgfedcba", "efghijkl", "lkjihgfe"]
    threads = [threading.Thread(target=fill, args=pair) for pair in zip(banks, names, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = open_bank(FLAT)
    alone.enroll(contribute(*"abcdefghijkl"))
    for bank in banks:
        assert look(bank.refresh()) == look(alone.snapshot)
        assert len(bank.snapshot.all_vectors()) == 12 * 24


def test_one_more_item_does_not_touch_a_large_segment(store):
    bank = open_bank(FLAT, store)
    bank.enroll(contribute(*(f"item {number}" for number in range(40))))
    (large,) = bank.snapshot.segments
    bank.enroll(contribute("one more"))
    assert bank.snapshot.segments[0] is large
    assert len(bank.snapshot.segments) == 2


def test_enrolled_one_by_one_there_are_few_segments_and_no_garbage(store):
    bank = open_bank(FLAT, store)
    for number in range(50):
        bank.enroll(contribute(f"item {number}"))
    assert len(bank.snapshot.segments) <= 6
    assert len(store.list("segments")) == len(bank.snapshot.segments)


def test_searching_goes_on_while_somebody_writes(store):
    class Stuck:
        """A store whose writes wait."""

        def __init__(self):
            self.reached, self.go = threading.Event(), threading.Event()

        def __getattr__(self, name):
            return getattr(store, name)

        def create(self, key, data):
            self.reached.set()
            self.go.wait(60)
            return store.create(key, data)

    open_bank(FLAT, store).enroll(contribute(*"ab"))
    stuck = Stuck()
    bank = Bank(stuck, ManifestLog(store, "log"), FLAT)
    writer = threading.Thread(target=bank.enroll, args=(contribute("c"),))
    writer.start()
    assert stuck.reached.wait(60)
    assert {item for _, item in look(bank.snapshot)} <= {"a", "b"}
    assert bank.refresh().items == frozenset("ab")  # following does not wait either
    stuck.go.set()
    writer.join()
    assert bank.snapshot.items == frozenset("abc")


def test_a_damaged_segment_is_noticed(store):
    bank = open_bank(FLAT, store)
    bank.enroll(contribute("a"))
    key = bank.snapshot.segments[0].key
    data = bytearray(store.get(key))
    data[-1] ^= 1
    store.put(key, bytes(data))
    with pytest.raises(DataLoss, match="checksum"):
        open_bank(FLAT, store)


def test_a_segment_that_is_gone_is_noticed(store):
    bank = open_bank(FLAT, store)
    bank.enroll(contribute("a"))
    store.delete(bank.snapshot.segments[0].key)
    with pytest.raises(DataLoss, match="gone"):
        open_bank(FLAT, store)


def test_the_census_counts_without_reading_a_segment(store):
    bank = open_bank(FLAT, store)
    bank.enroll(contribute(*"abcdefgh"))
    bank.forget(["a"])
    for key in store.list("segments"):
        store.delete(key)
    census = take_census(ManifestLog(store, "log").latest())
    assert (census.items, census.vectors, census.version) == (7, 7 * 24, bank.snapshot.version)


def test_categories_are_enrolled_in_one_version_and_searched_apart(store):
    bank, bolts = open_bank(FLAT, store), open_bank(FLAT)
    change = bank.enroll([*contribute(*"ace", category="bolt"), *contribute(*"bd", category="nut"), *contribute("f")])
    bolts.enroll(contribute(*"ace"))
    assert (change.version, bank.snapshot.categories) == (1, ("", "bolt", "nut"))
    for each in (bank, open_bank(FLAT, store)):
        assert look(each.snapshot.of("bolt")) == look(bolts.snapshot)
        assert each.snapshot.of("nut").items == frozenset("bd")
        assert each.snapshot.of("").items == frozenset("f")
        assert each.snapshot.of("screw").items == frozenset()
    census = take_census(ManifestLog(store, "log").latest())
    assert (census.items, census.categories) == (6, {"": 1, "bolt": 3, "nut": 2})


def test_an_item_stays_in_its_category_until_it_is_forgotten():
    bank = open_bank(FLAT)
    bank.enroll(contribute("a", category="bolt"))
    again = bank.enroll(contribute(*"ab", category="nut"))
    assert (again.changed, again.unchanged) == (("b",), ("a",))
    assert bank.snapshot.of("bolt").items == frozenset("a")
    bank.forget(["a"])
    assert bank.snapshot.categories == ("nut",)
    bank.enroll(contribute("a", category="nut"))
    assert bank.snapshot.of("nut").items == frozenset("ab")


def test_enrolled_one_by_one_in_turn_categories_have_few_segments_each(store):
    bank = open_bank(FLAT, store)
    for number in range(60):
        bank.enroll(contribute(f"item {number}", category=f"kind-{number % 3}"))
    assert len(bank.snapshot.segments) <= 15
    assert len(store.list("segments")) == len(bank.snapshot.segments)
    assert all(len(bank.snapshot.of(f"kind-{number}").items) == 20 for number in range(3))


def test_each_category_is_prepared_alone_and_before_it_is_shown(store):
    seen = []
    bank = Bank(store, ManifestLog(store, "log"), FLAT, lambda part: seen.append((bank.snapshot.version, part.items)))
    bank.enroll([*contribute(*"ab", category="bolt"), *contribute("c", category="nut")])
    assert seen == [(0, frozenset("ab")), (0, frozenset("c"))]


def test_more_categories_than_a_detector_may_have_are_refused_whole():
    bank = open_bank(FLAT)
    bank.enroll([(str(number), f"kind-{number}", embed(number, count=1)) for number in range(99)])
    with pytest.raises(
        FailedPrecondition, match="at most 100 categories: this one has 99, and 2 were given"
    ) as refusal:
        bank.enroll([*contribute("a", category="x"), *contribute("b", category="y")])
    assert refusal.value.reason == "TOO_MANY_CATEGORIES"
    assert len(bank.snapshot.items) == 99
    bank.enroll([*contribute("a", category="x"), *contribute("b", category="kind-1")])
    assert len(bank.snapshot.categories) == 100


def test_what_lies_behind_forgotten_rows_is_found_though_another_segment_has_something_farther():
    bank = open_bank(FLAT)
    for names, forgotten in (("ac", ""), ("bh", "c"), ("ae", "ha")):
        bank.enroll(contribute(*names))
        if forgotten:
            bank.forget(forgotten)
    alone = open_bank(FLAT)
    alone.enroll(contribute("b", "e"))
    assert len(bank.snapshot.segments) == 2
    assert look(bank.snapshot) == look(alone.snapshot)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=3)), max_size=12))
def test_a_bank_equals_its_replayed_log(steps):
    store, expected = Store.open("memory://"), set()
    bank = open_bank(FLAT, store)
    for enrolls, names in steps:
        (bank.enroll(contribute(*names)) if enrolls else bank.forget(names))
        expected = expected | names if enrolls else expected - names
        assert bank.snapshot.items == expected
    reopened = open_bank(FLAT, store).snapshot
    assert reopened.items == expected
    if expected:
        alone = open_bank(FLAT)
        alone.enroll(contribute(*sorted(expected)))
        assert look(reopened) == look(alone.snapshot)


def test_rows_survive_the_way_to_bytes_and_back():
    rows = Rows.of((item, embedding) for item, _, embedding in contribute(*"ba", "ü"))
    bank = open_bank(FLAT)
    bank.enroll(contribute(*"ba", "ü"))
    (segment,) = bank.snapshot.segments
    read, inverted = read_segment(write_segment(rows), segment.sha256)
    assert inverted is None
    assert read.items == ("a", "b", "ü")
    assert (read.vectors == rows.vectors).all()
    assert isinstance(segment, Segment)
