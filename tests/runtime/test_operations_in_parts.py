"""Operations whose work can be done side by side: here by one worker after the other, in a cluster by several."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Struct

from mekiki.types.v1 import types_pb2
from services.runtime.config import Settings
from services.runtime.ledger import Attempt, Ledger
from services.runtime.local_runner import LocalRunner, settings_environment
from services.runtime.operations import Operations
from services.runtime.pulse import Assignment, Pulse, Stop
from services.runtime.store import Store
from services.runtime.supervisor import Patience

HERE = Path(__file__).parent
END_S = 60.0


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))


@pytest.fixture
def settings(tmp_path):
    return Settings(store_url=f"file://{tmp_path}/state", log_level="warning", max_jobs=4)


@pytest.fixture
def ledger(settings):
    return Ledger("codec", Store.open(settings.store_url).prefixed("codec"))


def request(killed_at=-1):
    message = Struct()
    message.update({"killed_at": killed_at})
    return message


def read_made(operation):
    assert operation.done
    assert not operation.HasField("error"), operation.error
    response = Struct()
    operation.response.Unpack(response)
    return list(response["made"])


def run_worker(settings, ledger, operation, part):
    """What a pod of an Indexed Job does."""
    words = ["-m", "fake_job", ledger.name(operation), "--attempt", "1", "--part", str(part)]
    environment = {**os.environ, **settings_environment(settings)}
    return subprocess.run([sys.executable, *words], env=environment, timeout=END_S, check=False).returncode


async def test_one_worker_does_all_parts_and_what_a_killed_one_had_done_is_not_done_again(settings):
    store = Store.open(settings.store_url).prefixed("codec")
    operations = Operations("codec", store, LocalRunner(settings, "fake_job"), Patience(poll_s=0.05))
    await operations.open()
    started = await operations.start("Share", request(killed_at=1), parts=3)
    ended = await operations.wait(started.name, END_S)
    await operations.close()
    assert read_made(ended) == ["0 after None", "1 after b'of part 1'", "2 after None"]
    assert [key.split("-")[0] for key in store.list("parts")] == ["parts/0", "parts/1", "parts/1", "parts/2"]


def test_of_several_workers_the_last_one_tells_the_outcome(settings, ledger):
    operation = ledger.add("Share", request(), parts=3)
    ledger.claim(operation, Attempt(1, lost=0))
    for part in (2, 0):
        assert run_worker(settings, ledger, operation, part) == 0
        assert ledger.outcome(operation) is None
    assert run_worker(settings, ledger, operation, 1) == 0
    ended, told = ledger.outcome(operation), types_pb2.OperationMetadata()
    ended.metadata.Unpack(told)
    assert (told.phase, told.done, told.total) == ("sharing", 3, 3)
    assert read_made(ended) == ["0 after None", "1 after None", "2 after None"]


def test_an_ended_operation_leaves_nothing_of_its_parts(settings, ledger):
    operation = ledger.add("Share", request(), parts=2)
    ledger.claim(operation, Attempt(1, lost=0))
    for part in range(2):
        run_worker(settings, ledger, operation, part)
    scratch = ledger.scratch(operation)
    assert scratch.count_parts() == 2
    ledger.retire(operation)
    assert (scratch.count_parts(), scratch.load_checkpoint(0), scratch.load_part(1)) == (0, None, None)


def test_the_worker_of_one_part_that_is_stopped_does_not_end_the_others(ledger):
    operation = ledger.add("Share", request(), parts=2)
    pulse = Pulse(ledger, Assignment("codec", operation, attempt=1, parent=None, part=1))
    pulse.conclude(Stop.RELEASED)
    assert not ledger.was_released(operation, 1)


def test_a_record_from_before_there_were_parts_is_one_part(settings, ledger):
    operation = ledger.add("Share", request())
    store, key = Store.open(settings.store_url).prefixed("codec"), f"operations/{operation}/record"
    before = json.loads(store.get(key))
    del before["parts"]
    store.put(key, json.dumps(before).encode())
    assert ledger.record(operation).parts == 1
