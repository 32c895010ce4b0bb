"""Every RPC of every proto is served, reachable from the SDK under its own name, and documented."""

import re

import grpc
import pytest

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.codec.v1 import codec_pb2
from mekiki.saliency.v1 import saliency_pb2
from tests.conftest import ROOT

SERVICES = {"codec": codec_pb2, "saliency": saliency_pb2, "boxfit": boxfit_pb2, "anomaly": anomaly_pb2}
RPCS = [
    pytest.param(name, method, id=f"{name}.{method.name}")
    for name, module in SERVICES.items()
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_no_proto_was_forgotten():
    protos = {path.parent.parent.name for path in (ROOT / "protos" / "mekiki").glob("*/v1/*.proto")}
    assert protos == {*SERVICES, "types"}


@pytest.mark.parametrize(("service", "method"), RPCS)
async def test_every_rpc_is_reachable_from_the_sdk_under_its_own_name(service, method):
    async with mekiki.AsyncClient("127.0.0.1:1") as asynchronous:
        with mekiki.Client("127.0.0.1:1") as synchronous:
            for client in (asynchronous, synchronous):
                assert getattr(getattr(client, service), snake(method.name)).__doc__


@pytest.mark.parametrize(("service", "method"), RPCS)
def test_every_rpc_is_documented(service, method):
    page = (ROOT / "docs" / "api.md").read_text()
    assert f"`{method.name}`" in page
    proto = (ROOT / "protos" / "mekiki" / service / "v1" / f"{service}.proto").read_text()
    assert re.search(rf"// [^\n]+\n  rpc {method.name}\(", proto)


@pytest.mark.xdist_group("house")
async def test_every_rpc_is_served(serve):
    from services.__main__ import OPENINGS

    address = await serve(OPENINGS)
    async with grpc.aio.insecure_channel(address) as channel:
        for parameter in RPCS:
            _, method = parameter.values
            assert await answer_code(channel, method) != grpc.StatusCode.UNIMPLEMENTED, method.full_name


async def answer_code(channel, method):
    """Calls an RPC with an empty request; whatever it answers, it must be there."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    multi = channel.stream_stream if method.client_streaming else channel.unary_stream
    call = multi(path)(iter([b""]) if method.client_streaming else b"", timeout=20)
    try:
        async for _ in call:
            break
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
