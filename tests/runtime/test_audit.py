"""Every change leaves a line; nothing secret leaves any."""

import asyncio
import contextlib
import json

import grpc
import pytest
import structlog

from mekiki.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc
from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from services.runtime.audit import MOST_LETTERS, MOST_NAMES
from services.runtime.config import Settings
from services.runtime.gate import Gate, Visit
from services.runtime.logs import configure_logs
from services.runtime.roles import rule_of
from tests.runtime.echoes import OURS, call, open_echoes, path_of
from tests.runtime.identities import AUDIENCE, bearer, make_jwt, write_jwks, write_tokens


@pytest.fixture
def tokens(tmp_path):
    entries = [("eva", ["engineer"], "plant-a"), ("root", ["admin"]), ("lina", ["line"])]
    return write_tokens(tmp_path / "tokens.json", *entries)


@pytest.fixture
def audited(capsys):
    found = []

    async def read(count):
        """The lines, once there are `count`: the caller may have its answer before the line of it is written."""
        async with asyncio.timeout(60):
            while len(found) < count:
                lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
                found.extend(line for line in lines if line["event"] == "audit")
                await asyncio.sleep(0.01)
        return found

    return read


async def test_every_rpc_that_changes_something_is_written_down_once_and_no_other(serve, tokens, audited):
    address = await serve(open_echoes([]), auth_tokens=tokens)
    async with grpc.aio.insecure_channel(address) as channel:
        for method in OURS:
            await call(channel, method, metadata=bearer("root"))
    changing = [method for method in OURS if rule_of(path_of(method)).changes]
    streams = sum(method.client_streaming for method in changing)
    lines = [line["rpc"] for line in await audited(len(changing) + streams) if line["outcome"] != "BEGUN"]
    assert lines == [path_of(method) for method in changing]


async def test_a_line_says_who_what_when_and_how_it_went(serve, tokens, audited):
    address = await serve(open_echoes([]), auth_tokens=tokens)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        request = codec_pb2.UpdateItemRequest(dataset="plant-a.screws", item=codec_pb2.Item(item_id="17"))
        await stub.UpdateItem(request, metadata=(*bearer("eva"), ("x-request-id", "id-1")))
        request.dataset = "plant-b.screws"
        for shown in (bearer("eva"), bearer("lina"), bearer("nobody")):
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.UpdateItem(request, metadata=shown)
    good, foreign, role, stranger = await audited(4)
    assert good["timestamp"].endswith("+00:00")
    assert good["peer"].startswith("ipv4:127.0.0.1:")
    told = {key: good[key] for key in ("subject", "tenant", "rpc", "resources", "outcome", "request_id", "certificate")}
    assert told == {
        "subject": "eva-subject",
        "tenant": "plant-a",
        "rpc": "/mekiki.codec.v1.CodecService/UpdateItem",
        "resources": ["17", "plant-a.screws"],
        "outcome": "OK",
        "request_id": "id-1",
        "certificate": "",
    }
    assert (foreign["outcome"], foreign["resources"]) == ("PERMISSION_DENIED", ["17", "plant-b.screws"])
    assert (role["outcome"], stranger["outcome"]) == ("PERMISSION_DENIED", "UNAUTHENTICATED")
    assert stranger["subject"] == ""


async def test_a_stream_is_written_down_when_it_begins_and_when_it_ends(serve, tokens, audited):
    address = await serve(open_echoes([]), auth_tokens=tokens)
    names = ["plant-a.x", "plant-b.x", "plant-a.x"]
    frames = [codec_pb2.AppendItemsRequest(id=name, dataset=name) for name in names]
    async with grpc.aio.insecure_channel(address) as channel:
        stream = codec_pb2_grpc.CodecServiceStub(channel).AppendItems(iter(frames), metadata=bearer("eva"))
        assert len([answer async for answer in stream]) == 3
    begun, ended = await audited(2)
    assert (begun["outcome"], begun["resources"][0]) == ("BEGUN", "plant-a.x")
    assert (ended["outcome"], ended["frames"], ended["frame_errors"]) == ("OK", 3, 1)
    assert ended["resources"] == ["plant-a.x", "plant-b.x"]
    assert begun["request_id"] == ended["request_id"]


async def test_the_context_of_a_stream_that_was_cut_is_not_asked_again(audited):
    """It may be gone from beneath Python by then: asking it for the other end killed a server now and then."""

    class Context:
        gone = False

        def peer(self):
            assert not self.gone
            return "ipv4:10.0.0.7:4711"

        def auth_context(self):
            assert not self.gone
            return {"x509_common_name": (b"line-7",)}

    context = Context()
    visit = Visit(Gate(Settings()), "/mekiki.codec.v1.CodecService/AppendItems", "id-1", None, context)
    context.gone = True
    visit.write("CANCELLED")
    [line] = await audited(1)
    assert (line["peer"], line["certificate"], line["outcome"]) == ("ipv4:10.0.0.7:4711", "line-7", "CANCELLED")


async def test_changes_are_written_down_where_nobody_asks_for_tokens_too(serve, audited):
    address = await serve(open_echoes([]))
    async with grpc.aio.insecure_channel(address) as channel:
        await codec_pb2_grpc.CodecServiceStub(channel).DeleteDataset(codec_pb2.DeleteDatasetRequest(dataset="x"))
    assert [(line["subject"], line["resources"]) for line in await audited(1)] == [("", ["x"])]


async def test_a_strange_name_stays_one_line_of_bounded_length(serve, tokens, audited):
    address = await serve(open_echoes([]), auth_tokens=tokens)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        name = '"}\n{"event": "audit", "subject": "root"}\r\x1b[31m' + "x" * 100_000
        await stub.DeleteDataset(codec_pb2.DeleteDatasetRequest(dataset=name), metadata=bearer("root"))
        frames = [codec_pb2.AppendItemsRequest(id="1", dataset=str(number)) for number in range(50)]
        _ = [answer async for answer in stub.AppendItems(iter(frames), metadata=bearer("root"))]
    lines = await audited(3)
    assert len(lines) == 3
    assert lines[0]["subject"] == "root-subject"
    assert len(lines[0]["resources"][0]) == MOST_LETTERS
    assert len(lines[-1]["resources"]) == MOST_NAMES


async def test_no_token_and_no_header_is_in_any_log(serve, tokens, tmp_path, capfd):
    """At the most talkative level, with good and bad tokens, a bug in the service, and files that were damaged."""
    before = structlog.get_config()
    configure_logs("debug")
    try:
        secrets = ["eva", "root", "lina", "s3cret-stranger", jwt := make_jwt(roles=["admin"]), make_jwt(aud="other")]
        jwks = write_jwks(tmp_path / "jwks.json")
        fields = {"auth_tokens": tokens, "auth_jwks": jwks, "auth_audience": AUDIENCE}
        address = await serve(open_echoes([]), **fields)
        hidden = (("x-api-key", "s3cret-header"), ("cookie", "s3cret-cookie"))
        async with grpc.aio.insecure_channel(address) as channel:
            for token in secrets:
                for method in OURS:
                    await ignore(call(channel, method, metadata=(*bearer(token), *hidden)))
            stub = anomaly_pb2_grpc.AnomalyServiceStub(channel)
            for shown in (f"Basic {jwt}", "s3cret-stranger", f"bearer  {jwt} x"):
                await ignore(stub.ScoreImage(anomaly_pb2.ScoreImageRequest(), metadata=(("authorization", shown),)))
            tokens.write_text(f'[{{"sha256": "{jwt}", "subject": "s3cret-stranger"}}]')
            jwks.write_text(f'{{"keys": "{jwt}"}}')
            await ignore(stub.ScoreImage(anomaly_pb2.ScoreImageRequest(), metadata=bearer("eva")))
        logs = "".join(capfd.readouterr())
    finally:
        structlog.configure(**before)
    assert "audit" in logs
    assert '"event": "call"' in logs
    shown = [secret for secret in (*secrets[3:], "s3cret", "Bearer", "BEGIN") if secret in logs]
    assert shown == []
    for subject in ("eva", "root", "lina"):  # who it was is told; that this is also how the token begins is the test's
        assert subject not in logs.replace(f"{subject}-subject", "")


async def ignore(awaitable):
    with contextlib.suppress(grpc.aio.AioRpcError):
        await awaitable
