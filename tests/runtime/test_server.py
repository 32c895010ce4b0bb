"""A real server over loopback with a tiny model behind the boxfit contract."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import grpc
import numpy as np
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.runtime import errors
from services.runtime.images import encode_heatmap
from tests.conftest import ROOT
from tests.runtime.tiny import OPENING

HEAT = encode_heatmap(np.ones((2, 3), np.float32))


def request(seed=0):
    return boxfit_pb2.FitBoxRequest(heatmap=HEAT, options=boxfit_pb2.FitOptions(seed=seed))


@pytest.fixture
async def stub(serve):
    address = await serve([OPENING])
    async with grpc.aio.insecure_channel(address) as channel:
        yield boxfit_pb2_grpc.BoxfitServiceStub(channel)


def detail(error, kind):
    for packed in rpc_status.from_call(error).details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


async def test_a_call_is_answered_and_says_version_and_request_id(stub):
    call = stub.FitBox(request(), metadata=(("x-request-id", "my-id"),))
    assert (await call).box.x_max == 3
    trailing = dict(await call.trailing_metadata())
    assert trailing["x-request-id"] == "my-id"
    assert trailing["mekiki-version"]


async def test_a_strange_request_id_is_replaced(stub):
    call = stub.FitBox(request(), metadata=(("x-request-id", "x" * 1000),))
    await call
    assert len(dict(await call.trailing_metadata())["x-request-id"]) == 32


async def test_bad_input_names_field_limit_and_value(stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.FitBox(boxfit_pb2.FitBoxRequest(heatmap=types_pb2.Heatmap(width=5, height=6, values=bytes(4))))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    violation = detail(caught.value, error_details_pb2.BadRequest).field_violations[0]
    assert violation.field == "heatmap.values"
    assert violation.description == "must hold 120 bytes for 5 x 6, holds 4"
    assert detail(caught.value, error_details_pb2.ErrorInfo).reason == "INVALID_ARGUMENT"


async def test_a_bug_answers_internal_and_none_of_its_text(stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.FitBox(request(seed=13))
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "swordfish" not in str(caught.value)
    assert (await stub.FitBox(request())).box.x_max == 3


async def test_an_oversized_message_is_refused_and_the_next_call_works(serve):
    address = await serve([OPENING], max_message_bytes=1 << 20)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = boxfit_pb2_grpc.BoxfitServiceStub(channel)
        before = psutil.Process().memory_info().rss
        for _ in range(10):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.FitBox(boxfit_pb2.FitBoxRequest(mask=types_pb2.Mask(png=bytes(2 << 20))))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "1048576" in caught.value.details()
        assert psutil.Process().memory_info().rss - before < 64 << 20
        assert (await stub.FitBox(request())).box.x_max == 3


async def test_a_full_queue_says_when_to_come_back(serve):
    address = await serve([OPENING], queue_limit=2, max_batch=1)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = boxfit_pb2_grpc.BoxfitServiceStub(channel)
        results = await asyncio.gather(*(stub.FitBox(request(seed=100)) for _ in range(30)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert refused
    assert len(refused) < 30
    for error in refused:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(error, error_details_pb2.ErrorInfo).reason == "OVERLOADED"
        assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() > 0


async def test_a_deadline_reaches_the_batcher(stub):
    busy = asyncio.gather(*(stub.FitBox(request(seed=300)) for _ in range(2)))
    await asyncio.sleep(0.1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.FitBox(request(seed=1), timeout=0.05)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await busy


async def test_a_bad_frame_in_the_middle_of_good_ones(stub):
    async def frames():
        for number in range(5):
            bad = boxfit_pb2.FitBoxRequest()
            yield boxfit_pb2.FitBoxesRequest(id=str(number), request=bad if number == 2 else request())

    answers = [answer async for answer in stub.FitBoxes(frames())]
    assert [answer.id for answer in answers] == list("01234")
    assert [answer.WhichOneof("result") for answer in answers] == ["response"] * 2 + ["error"] + ["response"] * 2
    assert answers[2].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_health_is_watched_and_reflection_lists_the_service(serve):
    address = await serve([OPENING])
    name = "mekiki.boxfit.v1.BoxfitService"
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", name):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask])):
            names = {service.name for service in answer.list_services_response.service}
        assert {name, "google.longrunning.Operations", "grpc.health.v1.Health"} <= names


async def test_a_taken_port_is_said_plainly(serve):
    address = await serve([OPENING])
    with pytest.raises(errors.Unavailable, match=r"cannot listen on 127\.0\.0\.1"):
        await serve([OPENING], port=int(address.split(":")[1]))


def start_process(tmp_path, **environment):
    with socket_on_free_port() as free:
        port = free
    environment = {"MEKIKI_PORT": str(port), "MEKIKI_STORE_URL": f"file://{tmp_path}", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.runtime.tiny"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, port


def socket_on_free_port():
    import contextlib
    import socket

    @contextlib.contextmanager
    def bound():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            yield sock.getsockname()[1]

    return bound()


async def test_sigterm_lets_200_calls_in_flight_finish_and_says_not_serving_first(tmp_path):
    process, port = start_process(tmp_path, MEKIKI_QUEUE_LIMIT="1000", MEKIKI_MAX_BATCH="8")
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = boxfit_pb2_grpc.BoxfitServiceStub(channel)
            await stub.FitBox(request(), wait_for_ready=True, timeout=30)
            watched = []
            watch = asyncio.create_task(follow_health(channel, watched))
            await until(lambda: watched)
            calls = [stub.FitBox(request(seed=100), timeout=60) for _ in range(200)]
            ended = []
            for call in calls:
                call.add_done_callback(lambda _: ended.append(time.monotonic()))
            await until(lambda: ended)
            assert len(ended) < 100
            process.send_signal(signal.SIGTERM)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [result for result in results if isinstance(result, BaseException)] == []
            await asyncio.gather(watch, return_exceptions=True)
        _, log = await asyncio.to_thread(process.communicate, timeout=30)
        assert process.returncode == 0, log
        assert [status for status, _ in watched] == ["SERVING", "NOT_SERVING"], log
        assert watched[1][1] < max(ended)
        assert '"event": "stopped"' in log
    finally:
        process.kill()
        process.communicate()


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the condition is the other process's doing
            await asyncio.sleep(0.01)


async def follow_health(channel, watched):
    stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
    async for answer in stream:
        watched.append((health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), time.monotonic()))


def test_all_mistakes_in_the_settings_are_reported_together(tmp_path):
    process, _ = start_process(tmp_path, MEKIKI_QUEUE_LIMIT="0", MEKIKI_MAX_BATCH="many", MEKIKI_PORT="70000")
    _, log = process.communicate(timeout=30)
    assert process.returncode == 2
    for name in ("MEKIKI_QUEUE_LIMIT", "MEKIKI_MAX_BATCH", "MEKIKI_PORT"):
        assert name in log
