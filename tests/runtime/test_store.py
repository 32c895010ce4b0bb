import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.runtime.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, Unavailable
from services.runtime.store import Store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.open(f"file://{tmp_path}/state" if request.param == "file" else "memory://")


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    return Store.open(f"file://{tmp_path}/state")


def test_what_was_put_is_got(store: Store) -> None:
    store.put("segments/1", b"old")
    store.put("segments/1", b"new")
    assert store.get("segments/1") == b"new"


def test_a_range_is_half_open(store: Store) -> None:
    store.put("video", b"0123456789")
    assert store.get_range("video", 2, 5) == b"234"
    assert store.get_range("video", 9, 10) == b"9"


@pytest.mark.parametrize(("start", "end"), [(8, 11), (12, 14)])
def test_a_range_that_the_object_cannot_fill_is_data_loss(store: Store, start: int, end: int) -> None:
    store.put("video", b"0123456789")
    with pytest.raises(DataLoss):
        store.get_range("video", start, end)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 3), (4, 3)])
def test_a_range_without_bytes_is_refused(store: Store, start: int, end: int) -> None:
    store.put("video", b"0123456789")
    with pytest.raises(InvalidArgument):
        store.get_range("video", start, end)


def test_what_is_not_there_is_not_found(store: Store) -> None:
    store.put("a/b", b"")
    for read in (lambda: store.get("c"), lambda: store.get("a"), lambda: store.get_range("c", 0, 1)):
        with pytest.raises(NotFound):
            read()


def test_create_never_overwrites(store: Store) -> None:
    store.create("a/b", b"first")
    with pytest.raises(AlreadyExists):
        store.create("a/b", b"second")
    assert store.get("a/b") == b"first"


def test_an_object_larger_than_one_part_is_created_once_too(store: Store) -> None:
    large = bytes(6 << 20)
    store.create("large", large)
    with pytest.raises(AlreadyExists):
        store.create("large", b"")
    assert store.get("large") == large


def test_a_claim_knows_its_own_object_again(store: Store) -> None:
    assert store.claim("attempt", b"token-1")
    assert store.claim("attempt", b"token-1")
    assert not store.claim("attempt", b"token-2")


def test_deleting_makes_room_for_a_new_object(store: Store) -> None:
    store.create("a/b", b"first")
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")
    store.create("a/b", b"second")


def test_a_list_holds_the_keys_beneath_a_folder_and_no_neighbours(store: Store) -> None:
    for key in ("bank/2", "bank/1", "bank/deep/3", "banknote/1", "x"):
        store.put(key, b"")
    assert store.list("bank") == ["bank/1", "bank/2", "bank/deep/3"]
    assert store.list("bank/") == store.list("bank")
    assert store.list("nothing") == []
    assert store.list() == ["bank/1", "bank/2", "bank/deep/3", "banknote/1", "x"]


def test_the_store_tells_when_an_object_was_written(store: Store) -> None:
    before_s = time.time() - 2  # a store's clock may be coarse
    store.put("a/old", b"")
    store.prefixed("a").put("new", b"")
    assert store.list_times("a").keys() == {"a/old", "a/new"}
    assert store.prefixed("a").list_times().keys() == {"old", "new"}
    assert before_s <= store.read_time("a/old") <= store.list_times()["a/new"] <= time.time() + 2
    with pytest.raises(NotFound):
        store.read_time("a/none")


def test_folders_are_named_once_and_vanish_with_their_last_object(store: Store) -> None:
    for key in ("sets/a/1", "sets/a/2", "sets/b/1", "sets/file"):
        store.put(key, b"")
    assert store.folders("sets") == ["a", "b"]
    store.delete("sets/b/1")
    assert store.folders("sets") == ["a"]
    assert store.folders("nothing") == []


def test_a_prefix_is_a_store_of_its_own(store: Store) -> None:
    codec, anomaly = store.prefixed("codec"), store.prefixed("anomaly")
    codec.put("a", b"codec")
    assert not anomaly.exists("a")
    assert codec.list() == ["a"]
    assert codec.prefixed("b").list() == []
    assert store.get("codec/a") == b"codec"


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "..", "a/../b", "../a", ".tmp/a", "a/.b", "a b", "ä", "a" * 201, "a\n"]
)
def test_a_key_that_climbs_or_hides_is_refused(store: Store, key: str) -> None:
    for use in (store.get, store.exists, store.delete, store.prefixed):
        with pytest.raises(InvalidArgument):
            use(key)
    with pytest.raises(InvalidArgument):
        store.put(key, b"")


def test_a_key_longer_than_s3_allows_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="900"):
        store.prefixed("p" * 100).put("/".join(["k" * 100] * 8), b"")


@pytest.mark.parametrize("url", ["http://a/b", "file://host/a", "file:relative", "/plain/path", "s3:///no-bucket"])
def test_an_unknown_place_is_refused_at_opening(url: str) -> None:
    with pytest.raises(InvalidArgument, match="store_url"):
        Store.open(url)


def test_of_50_threads_one_creates_the_object(store: Store) -> None:
    for race in range(20):
        barrier = threading.Barrier(50)

        def write(writer: int, race: int = race, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            try:
                store.create(f"races/{race}", str(writer).encode())
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(50) as threads:
            winners = [writer for writer, won in enumerate(threads.map(write, range(50))) if won]
        assert [int(store.get(f"races/{race}"))] == winners


def test_a_reader_never_sees_half_an_object(disk: Store) -> None:
    versions = [bytes([version]) * 1_000_000 for version in range(8)]
    disk.put("a", versions[0])
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            data = disk.get("a")
            seen.add(data[0] if data == versions[data[0]] else -1)

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions * 4:
        disk.put("a", version)
    done.set()
    reader.join()
    assert seen <= set(range(8))


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(disk: Store) -> None:
    def churn(writer: int) -> None:
        for number in range(40):
            disk.create(f"shared/folder/{writer}-{number}", b"x")
            disk.delete(f"shared/folder/{writer}-{number}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(churn, range(8)))
    assert disk.list() == []


def test_a_folder_that_vanishes_beneath_a_write_is_made_again(
    disk: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, left = os.link, [3]

    def vanish_then_link(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] > 0:
            target.parent.rmdir()
        link(source, target)

    monkeypatch.setattr(os, "link", vanish_then_link)
    disk.create("shared/folder/a", b"data")
    assert left == [0]
    assert disk.get("shared/folder/a") == b"data"


@pytest.mark.parametrize("write", [Store.create, Store.put])
def test_file_then_name_then_every_folder_is_synced_before_a_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Store, str, bytes], None]
) -> None:
    disk, steps = Store.open(f"file://{tmp_path}/state"), []
    sync, link, replace = os.fsync, os.link, os.replace

    def record_sync(descriptor: int) -> None:
        sync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("data" if path.is_file() else f"folder {path.relative_to(tmp_path)}")

    def named(publish: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def record(source: Path, target: Path) -> None:
            publish(source, target)
            steps.append("name")

        return record

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "link", named(link))
    monkeypatch.setattr(os, "replace", named(replace))
    write(disk, "new/deeper/object", b"data")
    assert steps == ["data", "name", "folder state/new/deeper", "folder state/new", "folder state"]


def test_a_failed_write_leaves_nothing(disk: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device", "/secret/path")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unavailable, match=r"^the store is full$"):
        disk.create("a", b"data")
    monkeypatch.undo()
    assert disk.list() == []
    assert list((tmp_path / "state" / ".tmp").iterdir()) == []


def test_litter_of_dead_writers_is_swept_at_opening_and_never_listed(disk: Store, tmp_path: Path) -> None:
    old, new = tmp_path / "state" / ".tmp" / "1-old", tmp_path / "state" / ".tmp" / "2-new"
    for litter in (old, new):
        litter.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert disk.list() == []
    assert disk.folders() == []
    Store.open(disk.url)
    assert (old.exists(), new.exists()) == (False, True)


def test_an_object_where_a_folder_is_needed_is_not_overwritten(disk: Store) -> None:
    disk.put("a", b"object")
    with pytest.raises(NotFound):
        disk.put("a/b", b"")
    assert disk.get("a") == b"object"
