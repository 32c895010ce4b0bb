import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3 import s3_server

from services.runtime.errors import AlreadyExists, DataLoss, NotFound, Unavailable
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("s3")]  # the server may have to be built first


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def store(url: str, request: pytest.FixtureRequest) -> Store:
    return Store.open(url).prefixed(request.node.name.partition("[")[0][:100])


def test_a_bucket_keeps_what_a_disk_keeps(store: Store) -> None:
    store.put("a/b", b"old")
    store.put("a/b", b"0123456789")
    store.put("a/c=1+@.x", b"")
    assert store.get("a/b") == b"0123456789"
    assert store.get_range("a/b", 2, 5) == b"234"
    assert store.list() == ["a/b", "a/c=1+@.x"]
    assert store.folders() == ["a"]
    assert store.exists("a/b")
    assert not store.exists("a")
    assert store.list_times() == {key: store.read_time(key) for key in store.list()}
    assert abs(store.read_time("a/b") - time.time()) < 60
    with pytest.raises(NotFound):
        store.read_time("a")
    store.delete("a/b")
    store.delete("a/b")
    assert store.list("a") == ["a/c=1+@.x"]


def test_a_bucket_raises_the_errors_of_a_disk(store: Store) -> None:
    store.create("a", b"0123456789")
    with pytest.raises(AlreadyExists):
        store.create("a", b"")
    with pytest.raises(NotFound):
        store.get("b")
    for start, end in ((8, 11), (12, 14)):
        with pytest.raises(DataLoss):
            store.get_range("a", start, end)


def test_an_object_larger_than_one_part_is_created_once_too(store: Store) -> None:
    large = bytes(6 << 20)
    store.create("large", large)
    for _ in range(20):  # the server drops some of these connections instead of answering
        with pytest.raises(AlreadyExists):
            store.create("large", large)
    store.put("larger", large * 2)
    assert store.get("larger") == large * 2


def test_of_50_threads_one_commits_the_number(store: Store) -> None:
    for race in range(5):
        barrier = threading.Barrier(50)

        def claim(writer: int, race: int = race, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return store.claim(f"races/{race}", str(writer).encode())

        with ThreadPoolExecutor(50) as threads:
            winners = [writer for writer, won in enumerate(threads.map(claim, range(50))) if won]
        assert [int(store.get(f"races/{race}"))] == winners


def test_of_50_processes_one_commits_the_number(url: str) -> None:
    program = Path(__file__).with_name("race.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, program, url, "5", "50"], env=environment, stdout=subprocess.PIPE, check=True)
    found = json.loads(ran.stdout)
    assert found["latest"] == 5
    assert found["winners"] == [[writer] for writer in found["held"]]


def test_the_newest_of_many_manifests_is_found_with_few_requests(store: Store) -> None:
    log = ManifestLog(store, "log")
    for number in range(1, 41):
        log.commit(number, {"n": number})
    assert ManifestLog(store, "log").latest().body == {"n": 40}


def test_a_store_that_does_not_answer_is_unavailable_and_says_nothing_of_where_it_is(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    gone = Store.open(url)
    with pytest.raises(Unavailable, match=r"^the store cannot be reached just now$"):
        gone.get("a")


def test_a_store_that_refuses_the_credentials_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Unavailable, match=r"^the store refuses this service access$"):
        Store.open(url).put("a", b"")
