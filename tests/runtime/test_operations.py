import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import psutil
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.struct_pb2 import Struct
from google.rpc import code_pb2, error_details_pb2

from mekiki.types.v1 import types_pb2
from services.runtime import operations as operations_module
from services.runtime.config import Settings
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Overloaded
from services.runtime.gate import Gate
from services.runtime.interceptor import CallInterceptor
from services.runtime.ledger import Attempt, Ledger, Progress
from services.runtime.local_runner import LocalRunner, settings_environment
from services.runtime.operations import Operations, add_operations_to_server
from services.runtime.store import Store
from services.runtime.supervisor import Patience

HERE = Path(__file__).parent
QUICK = Patience(poll_s=0.05, lost_after_s=30, hung_after_s=30, lost_limit=3)
END_S = 60.0
"""Only a bound for a test that has gone wrong."""

Open = Callable[..., Awaitable[Operations]]


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store_url=f"file://{tmp_path}/state", log_level="warning", max_jobs=4)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store.open(settings.store_url).prefixed("codec")


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger("codec", store)


@pytest.fixture
async def open_operations(settings: Settings, store: Store) -> AsyncIterator[Open]:
    """Opens the operations of one more server over the same store; closes them all at the end."""
    opened: list[Operations] = []

    async def open_one(patience: Patience = QUICK, max_jobs: int = 4, grace_s: float = 2.0) -> Operations:
        runner = LocalRunner(settings.model_copy(update={"max_jobs": max_jobs}), "fake_job", grace_s)
        opened.append(Operations("codec", store, runner, patience))
        await opened[-1].open()
        return opened[-1]

    yield open_one
    for operations in opened:
        await operations.close()


def request(**fields: object) -> Struct:
    message = Struct()
    message.update(fields)
    return message


def response_of(operation: operations_pb2.Operation) -> dict[str, object]:
    assert operation.done, operation
    assert not operation.HasField("error"), operation.error
    response = Struct()
    assert operation.response.Unpack(response)
    return dict(response)


def metadata_of(operation: operations_pb2.Operation) -> types_pb2.OperationMetadata:
    metadata = types_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def id_of(operation: operations_pb2.Operation) -> str:
    return operation.name.removeprefix("codec/operations/")


async def until(truth: Callable[[], object]) -> None:
    async with asyncio.timeout(END_S):
        while not truth():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)


def steps(store: Store) -> list[tuple[int, int]]:
    """(process, step) in the order of steps."""
    found = [key.removeprefix("steps/").split("-") for key in store.list("steps")]
    return sorted(((int(process), int(step)) for process, step in found), key=lambda pair: pair[1])


async def test_an_operation_tells_its_progress_and_ends_with_its_typed_response(
    open_operations: Open, ledger: Ledger
) -> None:
    operations = await open_operations()
    started = await operations.start("Count", request(until=30, pause_s=0.1))
    assert not started.done
    assert metadata_of(started).verb == "Count"
    await until(lambda: (ledger.progress(id_of(started)) or Progress(1)).done > 0)
    now = await operations.get(started.name)
    assert 0 < metadata_of(now).done < 30
    assert metadata_of(now).phase == "counting"
    assert metadata_of(now).total == 30
    assert metadata_of(now).metrics["half"] == metadata_of(now).done / 2
    ended = await operations.wait(started.name, END_S)
    assert response_of(ended) == {"first": 0, "reached": 30, "name": started.name}
    assert metadata_of(ended).phase == "counted"
    assert metadata_of(ended).create_time == metadata_of(started).create_time
    assert metadata_of(ended).update_time.ToNanoseconds() > metadata_of(ended).create_time.ToNanoseconds()


async def test_an_error_of_the_handler_arrives_with_its_details(open_operations: Open) -> None:
    operations = await open_operations()
    error = (await operations.wait((await operations.start("Refuse", request())).name, END_S)).error
    assert error.code == code_pb2.INVALID_ARGUMENT
    violations = error_details_pb2.BadRequest()
    assert any(detail.Unpack(violations) for detail in error.details)
    assert violations.field_violations[0].field == "request.size"


async def test_a_bug_ends_as_internal_and_tells_nothing_of_its_text(
    open_operations: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    operations = await open_operations()
    crash = await operations.start("Crash", request())
    unknown = await operations.start("NoSuchVerb", request())
    for operation in (crash, unknown):
        ended = await operations.wait(operation.name, END_S)
        assert ended.error.code == code_pb2.INTERNAL
        assert "secret" not in str(ended)
    log = capfd.readouterr().err
    assert "a secret that only the log may tell" in log
    assert "Traceback" in log


async def test_a_cancelled_operation_stops_at_its_next_report(open_operations: Open, store: Store) -> None:
    operations = await open_operations(grace_s=END_S)
    started = await operations.start("Count", request(until=10_000, pause_s=0.02))
    await until(lambda: steps(store))
    await operations.cancel(started.name)
    ended = await operations.wait(started.name, END_S)
    assert ended.error.code == code_pb2.CANCELLED
    done = len(steps(store))
    await asyncio.sleep(0.3)
    assert len(steps(store)) == done < 10_000


@pytest.mark.parametrize("grace_s", [0.3, END_S], ids=["by its server", "by itself, as in the cluster"])
async def test_a_cancelled_operation_whose_handler_does_not_listen_is_ended(
    open_operations: Open, store: Store, grace_s: float
) -> None:
    operations = await open_operations(grace_s=grace_s)
    started = await operations.start("IgnoreEverything", request())
    await until(lambda: store.exists("deaf"))
    await operations.cancel(started.name)
    assert (await operations.wait(started.name, END_S)).error.code == code_pb2.CANCELLED


async def test_an_operation_cancelled_before_its_turn_never_starts(open_operations: Open, ledger: Ledger) -> None:
    operations = await open_operations(max_jobs=1)
    first = await operations.start("Count", request(until=10_000, pause_s=0.02))
    await until(lambda: ledger.attempt(id_of(first)).number)
    second = await operations.start("Count", request(until=1, pause_s=0))
    await operations.cancel(second.name)
    assert (await operations.wait(second.name, END_S)).error.code == code_pb2.CANCELLED
    assert ledger.attempt(id_of(second)).number == 0
    assert not (await operations.get(first.name)).done


async def test_cancelling_what_has_ended_changes_nothing(open_operations: Open, ledger: Ledger) -> None:
    operations = await open_operations()
    operation = ledger.add("Count", request())
    ledger.finish(operation, request(reached=1))
    await operations.cancel(ledger.name(operation))
    assert response_of(await operations.get(ledger.name(operation))) == {"reached": 1}


async def test_a_killed_worker_is_resumed_from_its_checkpoint(open_operations: Open, store: Store) -> None:
    operations = await open_operations()
    started = await operations.start("Count", request(until=40, pause_s=0.02))
    await until(lambda: len(steps(store)) >= 5)
    killed = steps(store)[0][0]
    os.kill(killed, signal.SIGKILL)
    response = response_of(await operations.wait(started.name, END_S))
    assert response["first"] >= 4
    done = steps(store)
    assert {step for _, step in done} == set(range(40))
    assert len(done) <= 41  # one step may have been done twice: killed before its checkpoint
    assert len({process for process, _ in done}) == 2


async def test_a_frozen_worker_is_killed_and_resumed(open_operations: Open, store: Store) -> None:
    operations = await open_operations(grace_s=0.2)
    started = await operations.start("Count", request(until=40, pause_s=0.02))
    await until(lambda: len(steps(store)) >= 5)
    frozen = steps(store)[0][0]
    os.kill(frozen, signal.SIGSTOP)
    operations._supervisor._patience = replace(QUICK, hung_after_s=0.5)
    await until(lambda: not Path(f"/proc/{frozen}/exe").exists())
    operations._supervisor._patience = QUICK  # the next worker may take its time to start
    assert response_of(await operations.wait(started.name, END_S))["first"] >= 4


async def test_an_operation_whose_worker_dies_again_and_again_fails_and_says_why(
    open_operations: Open, store: Store
) -> None:
    operations = await open_operations(Patience(poll_s=0.05, lost_limit=2))
    ended = await operations.wait((await operations.start("Die", request(times=99))).name, END_S)
    assert ended.error.code == code_pb2.FAILED_PRECONDITION
    assert "worker was lost 2 times" in ended.error.message
    assert "signal 9" in ended.error.message
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in ended.error.details)
    assert info.reason == "WORKER_LOST"
    assert len(store.list("deaths")) == 2


async def test_closing_hands_running_work_to_the_next_server_without_counting_a_loss(
    open_operations: Open, store: Store, ledger: Ledger
) -> None:
    first = await open_operations()
    started = await first.start("Count", request(until=60, pause_s=0.05))
    await until(lambda: len(steps(store)) >= 3)
    await first.close()
    assert not (await first.get(started.name)).done
    second = await open_operations()
    assert response_of(await second.wait(started.name, END_S))["first"] >= 2  # the third may not be kept yet
    assert ledger.attempt(id_of(started)) == Attempt(2, lost=0)


SERVER = """
import asyncio, sys
from services.runtime.config import Settings
from services.runtime.operations import Operations
from services.runtime.local_runner import LocalRunner
from services.runtime.store import Store

async def main():
    settings = Settings()
    store = Store.open(settings.store_url).prefixed("codec")
    operations = Operations("codec", store, LocalRunner(settings, "fake_job"))
    await operations.open()
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_server_takes_its_workers_along_and_the_next_goes_on(
    open_operations: Open, settings: Settings, store: Store, ledger: Ledger
) -> None:
    name = ledger.name(ledger.add("Count", request(until=100, pause_s=0.1)))
    environment = {**os.environ, **settings_environment(settings)}
    with subprocess.Popen([sys.executable, "-c", SERVER], env=environment) as server:  # noqa: ASYNC220 - starts only
        await until(lambda: steps(store))
        server.kill()
    orphan = steps(store)[0][0]
    await until(lambda: not Path(f"/proc/{orphan}").exists())
    done = len(steps(store))
    assert done < 100
    operations = await open_operations()  # waits 30 s for silent workers: it was released, so it need not
    started = await operations.get(name)
    assert not started.done
    await until(lambda: len(steps(store)) > done)
    assert ledger.attempt(id_of(started)) == Attempt(2, lost=0)
    await operations.cancel(name)


async def test_a_worker_that_another_server_never_started_is_found_by_its_silence(
    open_operations: Open, ledger: Ledger
) -> None:
    operation = ledger.add("Count", request(until=1, pause_s=0))
    assert ledger.claim(operation, Attempt(1, lost=0))  # and then that server lost power
    operations = await open_operations(Patience(poll_s=0.05, lost_after_s=0.5))
    assert response_of(await operations.wait(ledger.name(operation), END_S))["reached"] == 1
    assert ledger.attempt(operation) == Attempt(2, lost=1)


async def test_a_worker_of_another_server_that_gives_signs_of_life_is_left_alone(
    open_operations: Open, ledger: Ledger
) -> None:
    operation = ledger.add("Count", request(until=1, pause_s=0))
    ledger.claim(operation, Attempt(1, lost=0))
    await open_operations(Patience(poll_s=0.05, lost_after_s=2))
    for beat in range(30):
        ledger.write_progress(operation, Progress(1, beat=beat))
        await asyncio.sleep(0.1)
    assert ledger.attempt(operation).number == 1


async def test_a_worker_that_was_replaced_stops_and_writes_nothing_more(ledger: Ledger) -> None:
    from services.runtime.pulse import Assignment, Pulse, Stop

    operation = ledger.add("Count", request())
    pulse = Pulse(ledger, Assignment("codec", operation, attempt=1, parent=None))
    ledger.claim(operation, Attempt(2, lost=1))
    ledger.write_progress(operation, Progress(2, beat=7))
    pulse.start()
    await until(lambda: pulse.stop is Stop.SUPERSEDED)
    pulse.end()
    assert ledger.progress(operation) == Progress(2, beat=7)


async def test_servers_over_one_store_start_each_operation_once(
    open_operations: Open, store: Store, ledger: Ledger
) -> None:
    started = [ledger.add("Count", request(until=4, pause_s=0.01)) for _ in range(3)]
    servers = [await open_operations() for _ in range(4)]
    for operation in started:
        await servers[1].wait(ledger.name(operation), END_S)
        assert ledger.attempt(operation) == Attempt(1, lost=0)
    assert len(steps(store)) == 12
    assert len({process for process, _ in steps(store)}) == 3


def test_of_50_supervisors_one_claims_an_attempt(ledger: Ledger) -> None:
    operation = ledger.add("Count", request())
    with ThreadPoolExecutor(50) as threads:
        claims = list(threads.map(lambda lost: ledger.claim(operation, Attempt(1, lost)), range(50)))
    assert claims.count(True) == 1
    assert ledger.attempt(operation) == Attempt(1, claims.index(True))


async def test_no_more_workers_run_at_once_than_allowed_though_servers_share_the_store(open_operations: Open) -> None:
    servers = [await open_operations(max_jobs=1) for _ in range(2)]
    started = [await servers[number % 2].start("LookAround", request()) for number in range(3)]
    for operation in started:
        assert response_of(await servers[0].wait(operation.name, END_S)) == {"most": 1}


async def test_a_wait_ends_with_its_timeout_and_tells_how_it_stands(
    ledger: Ledger, store: Store, settings: Settings
) -> None:
    operations = Operations("codec", store, LocalRunner(settings))  # not opened: nothing ever ends
    name = ledger.name(ledger.add("Count", request()))
    async with asyncio.timeout(END_S):
        waited = await operations.wait(name, 0.2)
        assert not waited.done
        assert metadata_of(waited).phase == "waiting for a free worker"
        assert not (await operations.wait(name, 0)).done
    with pytest.raises(NotFound):
        await operations.wait("codec/operations/20261121T075008123-00000000", 0.2)


async def test_a_draining_server_answers_those_who_wait(ledger: Ledger, store: Store, settings: Settings) -> None:
    operations = Operations("codec", store, LocalRunner(settings))
    waiting = asyncio.create_task(operations.wait(ledger.name(ledger.add("Count", request()))))
    await asyncio.sleep(0.1)
    operations.begin_drain()
    async with asyncio.timeout(END_S):
        assert not (await waiting).done


async def test_pages_hold_every_operation_once_newest_first(ledger: Ledger, store: Store, settings: Settings) -> None:
    operations = Operations("codec", store, LocalRunner(settings))
    names = []
    for _ in range(7):
        names.append(ledger.name(ledger.add("Count", request())))
        await asyncio.sleep(0.002)
    found, token = [], ""
    for size in (3, 3, 1):
        page = await operations.list(3, token)
        assert len(page.operations) == size
        found += [operation.name for operation in page.operations]
        token = page.next_token
    assert token == ""
    assert found == names[::-1]
    with pytest.raises(InvalidArgument, match="1000"):
        await operations.list(1001)
    with pytest.raises(InvalidArgument, match="page_token"):
        await operations.list(3, "../..")


async def test_only_what_has_ended_can_be_deleted(ledger: Ledger, store: Store, settings: Settings) -> None:
    operations = Operations("codec", store, LocalRunner(settings))
    operation = ledger.add("Count", request())
    name = ledger.name(operation)
    with pytest.raises(FailedPrecondition, match="cancel it first"):
        await operations.delete(name)
    ledger.finish(operation, request())
    await operations.delete(name)
    assert (await operations.list()).operations == []
    assert store.list() == []
    for use in (operations.get, operations.cancel, operations.delete):
        with pytest.raises(NotFound):
            await use(name)


@pytest.mark.parametrize(
    "name",
    ["", "codec", "codec/operations/", "codec/operations/../x", "anomaly/operations/20261121T075008123-3f9a2c1b"],
)
async def test_a_name_that_is_none_is_not_found(store: Store, settings: Settings, name: str) -> None:
    operations = Operations("codec", store, LocalRunner(settings))
    with pytest.raises(NotFound):
        await operations.get(name)


async def test_when_too_many_wait_the_next_is_refused(
    ledger: Ledger, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_module, "WAITING_LIMIT", 2)
    operations = Operations("codec", store, LocalRunner(settings))
    for _ in range(2):
        await operations.start("Count", request())
    with pytest.raises(Overloaded, match="limit is 2"):
        await operations.start("Count", request())


async def test_an_ended_operation_leaves_no_checkpoint_no_process_and_is_not_looked_at_again(
    open_operations: Open, store: Store, ledger: Ledger
) -> None:
    others = set(psutil.Process().children())  # of other tests, such as a house that stays up
    operations = await open_operations()
    started = await operations.start("Count", request(until=1, pause_s=0))
    await operations.wait(started.name, END_S)
    await until(lambda: ledger.unfinished() == [])
    assert not [key for key in store.list() if key.endswith("checkpoint")]
    assert set(psutil.Process().children()) <= others  # a zombie would be one more


async def test_only_the_first_ending_counts(ledger: Ledger) -> None:
    operation = ledger.add("Count", request())
    assert ledger.finish(operation, request(by="first"))
    assert not ledger.finish(operation, request(by="second"))
    assert response_of(ledger.describe(operation)) == {"by": "first"}


async def test_a_marker_without_a_record_is_swept_when_it_is_old(ledger: Ledger, store: Store) -> None:
    fresh = ledger.add("Count", request())
    store.put("unfinished/20200101T000000000-3f9a2c1b", b"")
    for operation in ledger.unfinished():
        ledger.sweep(operation)
    assert ledger.unfinished() == [fresh]


async def test_a_server_that_is_about_to_stop_starts_no_worker_and_the_next_one_does(open_operations: Open) -> None:
    old = await open_operations()
    old.begin_drain()
    started = await old.start("Count", request(until=2, pause_s=0.01))
    await asyncio.sleep(1.0)
    assert not (await old.get(started.name)).done
    assert (await (await open_operations()).wait(started.name, 60)).done


def test_operations_that_ended_long_ago_are_forgotten_and_no_others(ledger: Ledger, store: Store) -> None:
    recent, under_way, long_ago = (ledger.add("Count", request()) for _ in range(3))
    for operation in (recent, long_ago):
        ledger.finish(operation, request())
    old = {operation: f"20200101{operation[8:]}" for operation in (under_way, long_ago)}
    for operation, renamed in old.items():
        for key in store.list(f"operations/{operation}"):
            store.create(key.replace(operation, renamed), store.get(key))
            store.delete(key)
    assert ledger.expire(timedelta(days=90)) == [old[long_ago]]
    assert ledger.expire(timedelta(days=90)) == []
    assert sorted(ledger.ids()) == [old[under_way], recent]


async def test_a_server_forgets_old_operations_by_itself(open_operations: Open, ledger: Ledger, store: Store) -> None:
    operation = ledger.add("Count", request())
    ledger.finish(operation, request())
    await open_operations(replace(QUICK, keep_s=0.0))
    for _ in range(500):
        if not ledger.ids():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it is still there")


def test_a_workers_environment_says_all_that_the_settings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(
        store_url="s3://parts/line-7", weights_dir=tmp_path, weights_hub=False, max_wait_ms=0.5, codec_address="h:1"
    )
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


async def test_one_port_serves_the_operations_of_several_services(store: Store, settings: Settings) -> None:
    owners = {}
    for service in ("codec", "anomaly"):
        owners[service] = Operations(service, store.prefixed(service), LocalRunner(settings))
    server = grpc.aio.server(interceptors=[CallInterceptor("test", Gate(settings))])
    add_operations_to_server(owners, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        mine = await owners["anomaly"].start("Train", request())
        name = operations_pb2.GetOperationRequest(name=mine.name)
        assert await stub.GetOperation(name) == mine
        assert (await stub.ListOperations(operations_pb2.ListOperationsRequest(name="anomaly"))).operations == [mine]
        listed = await stub.ListOperations(operations_pb2.ListOperationsRequest(name="codec/operations"))
        assert not listed.operations
        waiting = operations_pb2.WaitOperationRequest(name=mine.name)
        waiting.timeout.FromMilliseconds(100)
        assert not (await stub.WaitOperation(waiting)).done
        await stub.CancelOperation(operations_pb2.CancelOperationRequest(name=mine.name))
        assert metadata_of(await stub.GetOperation(name)).phase == "stopping"
        await refuses(
            stub.DeleteOperation(operations_pb2.DeleteOperationRequest(name=mine.name)), "FAILED_PRECONDITION"
        )
        await refuses(stub.GetOperation(operations_pb2.GetOperationRequest(name="boxfit/operations/1")), "NOT_FOUND")
        await refuses(stub.ListOperations(operations_pb2.ListOperationsRequest(name="boxfit")), "INVALID_ARGUMENT")
        filtered = operations_pb2.ListOperationsRequest(name="codec", filter="done=true")
        await refuses(stub.ListOperations(filtered), "INVALID_ARGUMENT")
        # Without a timeout of its own a wait answers before the caller's deadline.
        assert not (await stub.WaitOperation(operations_pb2.WaitOperationRequest(name=mine.name), timeout=1.0)).done
    await server.stop(None)


async def refuses(call: Awaitable[object], code: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code().name == code
