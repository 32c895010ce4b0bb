import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.runtime.errors import AlreadyExists, Conflict, DataLoss, InvalidArgument, NotFound, Unavailable
from services.runtime.manifest import TRIES, Manifest, ManifestLog
from services.runtime.store import Store

HERE = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"file://{tmp_path}/state")


@pytest.fixture
def log(store: Store) -> ManifestLog:
    return ManifestLog(store, "sets/screws")


class CountingObjects:
    """Counts the reads of a memory store."""

    def __init__(self) -> None:
        self.inner = Store.open("memory://").objects
        self.reads = 0

    def __getattr__(self, name: str) -> object:
        self.reads += name in {"get", "exists", "list", "folders"}
        return getattr(self.inner, name)


def run_program(name: str, *arguments: str) -> dict[str, object]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, HERE / name, *arguments], env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(ran.stdout)


def test_an_empty_log_is_at_number_0(log: ManifestLog) -> None:
    assert log.latest() == Manifest(0, {})


def test_the_latest_is_what_was_committed_last(log: ManifestLog, store: Store) -> None:
    for number in range(1, 6):
        log.commit(number, {"n": number})
    assert log.latest() == Manifest(5, {"n": 5})
    assert ManifestLog(store, "sets/screws").latest() == Manifest(5, {"n": 5})
    assert log.read(2) == Manifest(2, {"n": 2})


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 100])
def test_every_length_of_log_is_found_cold(count: int) -> None:
    store = Store.open("memory://")
    for number in range(1, count + 1):
        ManifestLog(store, "log").commit(number, {})
    assert ManifestLog(store, "log").latest().number == count


def test_a_taken_number_is_a_conflict_and_changes_nothing(log: ManifestLog, store: Store) -> None:
    other = ManifestLog(store, "sets/screws")
    log.commit(1, {"by": "one"})
    with pytest.raises(Conflict):
        other.commit(1, {"by": "other"})
    assert other.latest() == Manifest(1, {"by": "one"})


@pytest.mark.parametrize("number", [-1, 0, 2, 7])
def test_a_number_that_would_leave_a_gap_is_refused(log: ManifestLog, number: int) -> None:
    with pytest.raises(InvalidArgument):
        log.commit(number, {})


@pytest.mark.parametrize("hint", [b"3", b"0", b"-5", b"999", b"no number", b""])
def test_a_stale_or_damaged_hint_does_not_mislead(log: ManifestLog, store: Store, hint: bytes) -> None:
    for number in range(1, 41):
        log.commit(number, {})
    store.put("sets/screws/hint", hint)
    assert ManifestLog(store, "sets/screws").latest().number == 40


def test_a_reader_follows_writers_elsewhere(log: ManifestLog, store: Store) -> None:
    reader = ManifestLog(store, "sets/screws")
    for number in range(1, 50):
        log.commit(number, {})
        if number % 7 == 0:
            assert reader.latest().number == number


def test_a_log_that_was_removed_begins_anew(log: ManifestLog, store: Store) -> None:
    for number in range(1, 20):
        log.commit(number, {})
    for key in store.list("sets/screws"):
        store.delete(key)
    assert log.latest().number == 0
    log.update(lambda body: {"fresh": True})
    assert log.latest() == Manifest(1, {"fresh": True})


def test_the_latest_of_2000_takes_few_requests_cold_and_two_steps_warm() -> None:
    objects = CountingObjects()
    store = Store("memory://", objects)
    writer = ManifestLog(store, "log")
    for number in range(1, 2001):
        writer.commit(number, {})
    reader = ManifestLog(store, "log")
    objects.reads = 0
    assert reader.latest().number == 2000
    assert objects.reads <= 12
    objects.reads = 0
    assert reader.latest().number == 2000
    assert objects.reads <= 3


def test_update_builds_on_the_newest_and_keeps_every_change_of_50_writers(store: Store) -> None:
    def add(writer: int) -> None:
        ManifestLog(store, "log").update(lambda body: {"items": [*body.get("items", []), writer]})

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(add, range(50)))
    latest = ManifestLog(store, "log").latest()
    assert latest.number == 50
    assert sorted(latest.body["items"]) == list(range(50))


def test_update_gives_up_when_it_always_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open("memory://")
    log, other, calls = ManifestLog(store, "log"), ManifestLog(store, "log"), []
    monkeypatch.setattr("time.sleep", lambda _: None)

    def lose(body: dict[str, object]) -> dict[str, object]:
        calls.append(1)
        other.commit(other.latest().number + 1, {})
        return body

    with pytest.raises(Conflict, match="64"):
        log.update(lose)
    assert len(calls) == TRIES


def test_an_error_of_the_change_passes_and_writes_nothing(log: ManifestLog) -> None:
    def refuse(_: dict[str, object]) -> dict[str, object]:
        raise NotFound("item", "a")

    with pytest.raises(NotFound):
        log.update(refuse)
    assert log.latest().number == 0


def test_a_commit_whose_answer_was_lost_is_no_conflict_with_itself() -> None:
    class Forgetful(CountingObjects):
        def create(self, key: str, data: bytes) -> None:
            self.inner.create(key, data)
            raise FileExistsError  # what S3 answers to the retry of a request that had succeeded

    log = ManifestLog(Store("memory://", Forgetful()), "log")
    assert log.commit(1, {"n": 1}).number == 1
    with pytest.raises(Conflict):
        log.commit(1, {"n": 1})


def test_a_commit_that_may_not_have_happened_is_unavailable() -> None:
    class Broken(CountingObjects):
        def create(self, key: str, data: bytes) -> None:
            raise OSError("connection reset")

    with pytest.raises(Unavailable):
        ManifestLog(Store("memory://", Broken()), "log").commit(1, {})


def test_a_commit_stands_though_its_hint_cannot_be_written() -> None:
    class NoHints(CountingObjects):
        def put(self, key: str, data: bytes) -> None:
            raise OSError("connection reset")

    log = ManifestLog(Store("memory://", NoHints()), "log")
    for number in range(1, 33):
        log.commit(number, {})
    assert log.latest().number == 32


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_manifest_is_data_loss(log: ManifestLog, store: Store, data: bytes) -> None:
    store.put(f"sets/screws/{1:020d}.json", data)
    with pytest.raises(DataLoss):
        log.latest()


def test_a_change_of_the_body_after_the_commit_changes_no_history(log: ManifestLog) -> None:
    body = {"items": [1]}
    committed = log.commit(1, body)
    body["items"].append(2)
    assert committed.body == log.latest().body == {"items": [1]}


def test_of_50_threads_one_commits_the_number(store: Store) -> None:
    def commit(writer: int) -> bool:
        try:
            ManifestLog(store, "log").commit(1, {"writer": writer})
        except (Conflict, AlreadyExists):
            return False
        return True

    with ThreadPoolExecutor(50) as threads:
        winners = [writer for writer, won in enumerate(threads.map(commit, range(50))) if won]
    assert [ManifestLog(store, "log").latest().body["writer"]] == winners


def test_of_50_processes_one_commits_the_number(store: Store) -> None:
    found = run_program("race.py", store.url, "20", "50")
    assert found["latest"] == 20
    assert found["winners"] == [[writer] for writer in found["held"]]


def test_a_writer_killed_between_any_two_steps_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    found = run_program("killed_writer.py", f"{tmp_path}/state", "201")  # 3 x 67 places to die: two appends and more
    assert set(found) == {"old state", "new state"}
    assert sum(found.values()) == 201
