import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.runtime.errors import DataLoss, NotFound
from services.runtime.manifest import Body, ManifestLog
from services.runtime.store import Store
from services.runtime.sweep import Ground, open_sweeper, sweep

GRACE_S = 100.0
NOW_S = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"file://{tmp_path}/state")


@pytest.fixture
def write(store: Store, tmp_path: Path) -> Callable[[str, float], None]:
    """Writes an object so many graces before NOW_S."""

    def write(key: str, graces_ago: float) -> None:
        store.create(key, b"")
        date(tmp_path / "state" / key, graces_ago)

    return write


@pytest.fixture
def commit(store: Store, tmp_path: Path) -> Callable[[list[str], float], None]:
    """Commits a manifest that names units, so many graces before NOW_S."""
    log = ManifestLog(store, "log")

    def commit(units: list[str], graces_ago: float) -> None:
        number = log.update(lambda _: {"units": units}).number
        date(tmp_path / "state" / "log" / f"{number:020d}.json", graces_ago)

    return commit


def date(path: Path, graces_ago: float) -> None:
    time_s = NOW_S - graces_ago * GRACE_S
    os.utime(path, (time_s, time_s))


def open_ground(store: Store) -> Ground:
    return Ground(store, "field", ManifestLog(store, "log"), list_named, lambda key: key.rpartition(".")[0] or key)


def list_named(newest: Body, settled: Body) -> set[str]:
    return {*newest["units"], *settled.get("units", [])}


def left(store: Store, graces_later: float = 0.0) -> list[str]:
    sweep(open_ground(store), GRACE_S, NOW_S + graces_later * GRACE_S)
    return [key.removeprefix("field/") for key in store.list("field")]


def test_what_nobody_names_goes_after_two_graces_and_what_is_named_stays_for_ever(store, write, commit):
    for name, age in (("live", 9), ("orphan", 2.1), ("young", 1.9)):
        write(f"field/{name}.x", age)
    commit(["field/live"], 8)
    assert left(store) == ["live.x", "young.x"]
    assert left(store, 1000) == ["live.x"]


def test_what_was_replaced_less_than_a_grace_ago_may_still_be_read(store, write, commit):
    write("field/old.x", 10)
    write("field/new.x", 0.6)
    commit(["field/old"], 9)
    commit(["field/new"], 0.5)
    assert left(store) == ["new.x", "old.x"]
    assert left(store, 0.6) == ["new.x"]


def test_what_came_and_went_within_a_grace_may_still_be_read(store, write, commit):
    for number, age in enumerate((10, 0.95, 0.1)):
        write(f"field/{number}.x", age)
        commit([f"field/{number}"], age - 0.05)
    assert left(store) == ["0.x", "1.x", "2.x"]
    assert left(store, 1.5) == ["2.x"]


def test_a_unit_is_as_old_as_its_youngest_object_and_goes_whole(store, write, commit):
    write("field/long.first", 50)
    write("field/long.last", 1.5)
    commit([], 60)
    assert left(store) == ["long.first", "long.last"]
    assert left(store, 1) == []


def test_a_log_that_is_gone_condemns_nothing(store, write):
    write("field/orphan.x", 50)
    assert left(store) == ["orphan.x"]


def test_where_a_list_cannot_be_read_nothing_is_deleted(store, write, commit):
    def fail(newest: Body, settled: Body) -> set[str]:
        raise DataLoss("a list is damaged")

    write("field/orphan.x", 50)
    commit([], 60)
    ground = Ground(store, "field", ManifestLog(store, "log"), fail, str)
    with pytest.raises(DataLoss):
        sweep(ground, GRACE_S, NOW_S)
    assert store.list("field") == ["field/orphan.x"]


def test_the_manifest_of_any_time_is_found(store, commit):
    for number in range(1, 8):
        commit([str(number)], 8 - number)
    log = ManifestLog(store, "log")
    found = [log.as_of(NOW_S - (8 - number + 0.5) * GRACE_S).number for number in range(1, 9)]
    assert found == [0, 1, 2, 3, 4, 5, 6, 7]
    assert log.as_of(NOW_S).body == {"units": ["7"]}
    assert ManifestLog(store, "empty").as_of(NOW_S).number == 0


class ClockedObjects:
    """Objects in memory, written when the test says."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.data: dict[str, tuple[bytes, float]] = {}

    def create(self, key: str, data: bytes) -> None:
        if key in self.data:
            raise FileExistsError
        self.data[key] = (data, self.now_s)

    def put(self, key: str, data: bytes) -> None:
        self.data[key] = (data, self.now_s)

    def get(self, key: str) -> bytes:
        return self._find(key)[0]

    def read_time(self, key: str) -> float:
        return self._find(key)[1]

    def exists(self, key: str) -> bool:
        return key in self.data

    def delete(self, key: str) -> None:
        self.data.pop(key, None)

    def list_times(self, prefix: str) -> dict[str, float]:
        return {key: time_s for key, (_, time_s) in self.data.items() if key.startswith(prefix)}

    def _find(self, key: str) -> tuple[bytes, float]:
        if key not in self.data:
            raise FileNotFoundError
        return self.data[key]


@pytest.mark.parametrize("seed", range(8))
def test_readers_and_writers_who_keep_their_promises_never_miss_anything(seed):
    objects, dice = ClockedObjects(), random.Random(seed)
    store = Store("memory://", objects)
    log = ManifestLog(store, "log")
    log.commit(1, {"units": []})
    later: list[tuple[float, str]] = []  # time and unit: to be named if it has a number, else to be there still

    def name_unit(unit: str) -> None:
        units = log.latest().body["units"]
        kept = dice.sample(units, max(0, len(units) - dice.randint(0, 2)))
        log.update(lambda _: {"units": [*kept, unit]})

    for number in range(1500):
        then_s = objects.now_s + dice.expovariate(20) * GRACE_S
        for due_s, unit in sorted(entry for entry in later if entry[0] <= then_s):
            objects.now_s = due_s
            later.remove((due_s, unit))
            if unit.startswith("open "):
                assert store.exists(unit.removeprefix("open "))
            else:
                name_unit(unit)
        objects.now_s = then_s
        store.create(f"field/{number}", b"")
        if dice.random() < 0.7:  # else its writer is killed
            later.append((then_s + dice.uniform(0, 0.99) * GRACE_S, f"field/{number}"))
        opened_s = then_s + dice.uniform(0, 0.99) * GRACE_S
        later += [(opened_s, f"open {unit}") for unit in log.latest().body["units"]]
        if dice.random() < 0.2:
            sweep(open_ground(store), GRACE_S, objects.now_s)
    assert len(objects.list_times("field/")) < 200
    sweep(open_ground(store), GRACE_S, objects.now_s + 3 * GRACE_S)
    assert sorted(objects.list_times("field/")) == sorted(log.latest().body["units"])


class Torn:
    """A store that dies at its n-th deletion, before it or after it."""

    def __init__(self, store: Store, deletions: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, deletions, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def delete(self, key: str) -> None:
        self._left -= 1
        if self._left > 0 or self._after:
            self._store.delete(key)
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("deletions", [1, 2, 3])
def test_a_sweep_that_dies_at_any_deletion_leaves_what_is_named_and_is_gone_on_with(
    store, write, commit, deletions, after
):
    for name in ("a.1", "a.2", "live.1", "z.1"):
        write(f"field/{name}", 10)
    commit(["field/live"], 9)
    with pytest.raises(KeyboardInterrupt):
        sweep(open_ground(Torn(store, deletions, after=after)), GRACE_S, NOW_S)
    assert len(store.list("field")) == 4 - deletions + (not after)
    assert left(store) == ["live.1"]


def test_a_sweeper_goes_on_after_a_failure_and_ends_when_closed(store, write, commit):
    write("field/orphan.x", 10)
    commit([], 9)
    rounds, swept = [], threading.Event()

    def list_grounds() -> list[Ground]:
        rounds.append(time.monotonic())
        if len(rounds) == 1:
            raise NotFound("store", "away")
        if len(rounds) > 4:
            swept.set()
        damaged = Ground(store, "field", ManifestLog(store, "log"), lambda *_: 1 / 0, str)
        return [damaged, open_ground(store)]

    sweeper = open_sweeper(list_grounds, grace_s=3600, every_s=0.01)
    sweeper.start()
    assert swept.wait(30)
    sweeper.close()
    sweeper._thread.join(30)
    assert not sweeper._thread.is_alive()
    assert store.list("field") == []
