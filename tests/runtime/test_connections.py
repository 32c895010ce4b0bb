"""Connections are replaced in time, and replicas behind one name take turns."""

import asyncio
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import mekiki
from mekiki._wire.channel import channel_arguments
from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from services.runtime.config import Settings
from services.runtime.images import encode_heatmap
from services.runtime.server import Server
from tests.runtime.echoes import open_echoes
from tests.runtime.tiny import OPENING as TINY

ONCE = mekiki.ClientOptions(retry=mekiki.RetryPolicy(attempts=1))


async def test_a_connection_that_is_old_is_replaced_and_no_call_fails(serve, capsys):
    """So that new replicas get load. Which connection a call came by, the audit log tells."""
    address = await serve(open_echoes([]), max_connection_age_s=1)
    async with mekiki.AsyncClient(address, options=ONCE) as client:
        for _ in range(40):
            await client.codec.delete_dataset("x")
            await asyncio.sleep(0.1)
    peers = {
        line.split('"peer": "')[1].split('"')[0] for line in capsys.readouterr().err.splitlines() if '"peer"' in line
    }
    assert len(peers) >= 2


async def test_replicas_behind_one_name_take_turns(serve):
    asked = [[], [], []]
    ports = [(await serve(open_echoes(each))).split(":")[1] for each in asked]
    address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with mekiki.AsyncClient(address, options=ONCE) as client:
        await client.anomaly.list_detectors()
        await asyncio.sleep(0.5)
        for _ in range(30):
            await client.anomaly.list_detectors()
    assert min(map(len, asked)) >= 9


async def test_a_silent_stream_that_is_probed_often_goes_on(serve):
    address = await serve(open_echoes([]))
    arguments = channel_arguments(address, mekiki.ClientOptions(keepalive_s=1.1))
    async with grpc.aio.insecure_channel(address, options=arguments) as channel:
        call = codec_pb2_grpc.CodecServiceStub(channel).AppendItems()
        for tag in ("before", "after"):
            await call.write(codec_pb2.AppendItemsRequest(id=tag))
            assert (await call.read()).id == tag
            await asyncio.sleep(7)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_a_stream_longer_than_a_connection_may_last_is_taken_up_again(serve, capsys):
    """The grace is over while frames are under way: the SDK sends those without an answer again."""
    address = await serve(open_echoes([]), max_connection_age_s=1, max_connection_age_grace_s=0.2)

    def images():
        for number in range(40):
            time.sleep(0.1)
            yield mekiki.NewItem(str(number), b"png")

    def push():
        with mekiki.Client(address) as client:
            return [answer.id for answer in client.codec.append_items("x", images()) if answer.error is None]

    answered = await asyncio.to_thread(push)
    assert answered == [str(number) for number in range(40)]
    assert capsys.readouterr().err.count("BEGUN") >= 2, "the connection was never cut"


async def test_calls_that_come_as_the_server_begins_to_stop_are_answered_and_watchers_hear_the_end(tmp_path):
    settings = Settings(port=0, metrics_port=0, store_url=f"file://{tmp_path}", queue_limit=1000)
    server = Server([TINY], [settings])
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await anext(aiter(watch))).status == health_pb2.HealthCheckResponse.SERVING
        stub = boxfit_pb2_grpc.BoxfitServiceStub(channel)
        request = boxfit_pb2.FitBoxRequest(heatmap=encode_heatmap(np.ones((2, 3), np.float32)))
        calls = [stub.FitBox(request, timeout=60) for _ in range(200)]
        await server.drain()
        assert [(await call).box.x_max for call in calls] == [3] * 200
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [answer.status async for answer in watch]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "the server stops"


async def test_a_replica_that_stops_under_load_fails_no_call_even_without_retries(tmp_path):
    """Clients watch its health: they turn away once it says that it is about to stop, and only then does it."""
    settings = Settings(port=0, metrics_port=0, store_url=f"file://{tmp_path}", queue_limit=1000)
    servers = [Server([TINY], [settings]) for _ in range(5)]
    for server in servers:
        await server.start()
    address = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    stopped, answered, failed = asyncio.Event(), [], []
    async with mekiki.AsyncClient(address, options=ONCE) as client:

        async def ask():
            while not stopped.is_set():
                try:
                    answered.append((await client.boxfit.fit_box(np.ones((2, 3), np.float32))).box.x_max)
                except mekiki.MekikiError as error:
                    failed.append(error)

        callers = [asyncio.create_task(ask()) for _ in range(16)]
        await asyncio.sleep(1)
        for server in servers[:-1]:
            await server.drain()
        stopped.set()
        await asyncio.gather(*callers)
    await servers[-1].drain()
    assert not failed
    assert set(answered) == {3}
