"""Who may connect, and that replaced certificates are used without a restart."""

import asyncio
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import mekiki
from mekiki import errors
from services.runtime.config import Settings
from services.runtime.errors import FailedPrecondition
from services.runtime.neighbours import neighbour_options, worker_options
from services.runtime.tls import open_server_credentials
from tests.runtime.echoes import open_echoes
from tests.runtime.identities import Authority, write_tokens

ONCE = mekiki.RetryPolicy(attempts=1)


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def files(tmp_path, authority):
    """A server's and a client's certificate, both of one CA."""
    (tmp_path / "server").mkdir()
    server, line = authority.issue(tmp_path / "server", "anomaly"), authority.issue(tmp_path, "line-3")
    ca = authority.write(tmp_path / "ca.crt")
    settings = {"tls_cert": server.cert, "tls_key": server.key, "tls_client_ca": ca}
    return settings, mekiki.Credentials(ca=ca, cert=line.cert, key=line.key)


def client_of(address, credentials):
    return mekiki.AsyncClient(address, options=mekiki.ClientOptions(retry=ONCE, credentials=credentials))


async def ask(address, credentials):
    async with client_of(address, credentials) as client:
        return await client.anomaly.list_detectors()


async def test_whoever_shows_a_certificate_of_the_right_ca_comes_in(serve, files):
    settings, credentials = files
    assert await ask(await serve(open_echoes([]), **settings), credentials) == ()


async def test_whoever_shows_none_or_anothers_or_trusts_another_is_refused_and_the_next_comes_in(
    serve, files, tmp_path, authority
):
    settings, credentials = files
    stranger = Authority("Another CA")
    (tmp_path / "other").mkdir()
    pair, other = stranger.issue(tmp_path / "other", "line-3"), stranger.write(tmp_path / "other" / "ca.crt")
    address = await serve(open_echoes([]), **settings)
    ca = credentials.ca
    for wrong in (
        mekiki.Credentials(),
        mekiki.Credentials(ca=ca),
        mekiki.Credentials(ca=ca, cert=pair.cert, key=pair.key),
        mekiki.Credentials(ca=other, cert=credentials.cert, key=credentials.key),
    ):
        with pytest.raises(errors.Unavailable):
            await ask(address, wrong)
        assert await ask(address, credentials) == ()


async def test_a_server_with_another_name_is_not_trusted_unless_that_name_is_given(serve, files, tmp_path, authority):
    settings, credentials = files
    pair = authority.issue(tmp_path / "server", "anomaly", hosts=["anomaly.plant"])
    address = await serve(open_echoes([]), **{**settings, "tls_cert": pair.cert, "tls_key": pair.key})
    with pytest.raises(errors.Unavailable):
        await ask(address, credentials)
    named = mekiki.Credentials(
        ca=credentials.ca, cert=credentials.cert, key=credentials.key, server_name="anomaly.plant"
    )
    assert await ask(address, named) == ()


async def test_without_a_client_ca_nobody_needs_a_certificate(serve, files):
    settings, credentials = files
    ca = settings.pop("tls_client_ca")
    address = await serve(open_echoes([]), **settings, tls_ca=ca)
    assert await ask(address, mekiki.Credentials(ca=credentials.ca)) == ()
    with pytest.raises(errors.Unavailable):
        await ask(address, mekiki.Credentials())


async def test_a_port_for_health_alone_is_plain(serve, files):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings, _ = files
    await serve(open_echoes([]), **settings, health_port=port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(errors.Unimplemented):
        await ask(f"127.0.0.1:{port}", mekiki.Credentials())


async def test_everything_replaced_at_once_is_used_on_both_sides_without_a_restart(serve, files, tmp_path):
    """A new CA, and with it new certificates of the server and of a client that goes on all the while."""
    settings, credentials = files
    address = await serve(open_echoes([]), **settings)
    async with client_of(address, credentials) as client:
        await client.anomaly.list_detectors()
        new = Authority()
        (tmp_path / "new").mkdir()
        for name, folder in (("anomaly", tmp_path / "server"), ("line-3", tmp_path)):
            pair = new.issue(tmp_path / "new", name)
            shutil.copy(pair.cert, folder)
            shutil.copy(pair.key, folder)
        before = tmp_path / "before.crt"
        shutil.copy(credentials.ca, before)
        new.write(credentials.ca)
        await asyncio.sleep(1.2)
        assert await client.anomaly.list_detectors() == ()
        with pytest.raises(errors.Unavailable):
            await ask(address, mekiki.Credentials(ca=before, cert=credentials.cert, key=credentials.key))
    assert await ask(address, credentials) == ()


def test_the_plain_client_follows_too_and_a_call_under_way_is_not_cut(files, tmp_path):
    settings, credentials = files
    server = grpc.server(ThreadPoolExecutor(4))
    begun, go_on = threading.Event(), threading.Event()

    class Servicer(health_pb2_grpc.HealthServicer):
        def Check(self, request, context):  # noqa: N802
            if request.service == "":
                begun.set()
                go_on.wait(20)
            return health_pb2.HealthCheckResponse(status="SERVING")

    health_pb2_grpc.add_HealthServicer_to_server(Servicer(), server)
    port = server.add_secure_port("127.0.0.1:0", open_server_credentials(Settings(**settings)))
    server.start()
    options = mekiki.ClientOptions(retry=ONCE, credentials=credentials)
    with mekiki.Client(f"127.0.0.1:{port}", options=options) as client, ThreadPoolExecutor(1) as pool:
        stub = health_pb2_grpc.HealthStub(client._channels["codec"])
        long = pool.submit(stub.Check, health_pb2.HealthCheckRequest(), timeout=20)
        assert begun.wait(60)
        channel = client._channels["codec"].current
        new = Authority()
        new.write(credentials.ca)
        new.issue(tmp_path / "server", "anomaly")
        new.issue(tmp_path, "line-3")
        time.sleep(1.2)
        assert client.check_service("codec").is_serving
        assert client._channels["codec"].current is not channel
        go_on.set()
        assert long.result(20).status == health_pb2.HealthCheckResponse.SERVING
    server.stop(0).wait()


async def test_files_that_do_not_fit_together_change_nothing_until_they_do(serve, files, tmp_path, authority):
    """Whoever replaces two files replaces one of them first."""
    settings, credentials = files
    address = await serve(open_echoes([]), **settings)
    new = authority.issue(tmp_path, "new")
    for cert, key in ((settings["tls_cert"], settings["tls_key"]), (credentials.cert, credentials.key)):
        shutil.copy(new.cert, cert)
        key.write_text("")
    async with client_of(address, credentials_of_new(credentials, new)) as client:
        await asyncio.sleep(1.2)
        assert await client.anomaly.list_detectors() == ()
        for key in (settings["tls_key"], credentials.key):
            shutil.copy(new.key, key)
        await asyncio.sleep(1.2)
        assert await client.anomaly.list_detectors() == ()
    assert await ask(address, credentials) == ()


def credentials_of_new(credentials, pair):
    return mekiki.Credentials(ca=credentials.ca, cert=pair.cert, key=pair.key)


def test_files_that_are_no_certificates_are_said_at_the_start(files, tmp_path, authority):
    settings, _ = files
    other = authority.issue(tmp_path, "other")
    for wrong in ({"tls_key": other.key}, {"tls_cert": other.key}, {"tls_client_ca": other.key}):
        with pytest.raises(FailedPrecondition, match=r"other\.key|anomaly"):
            open_server_credentials(Settings(**{**settings, **wrong}))


def test_neighbours_are_called_as_this_service_is(files, tmp_path):
    settings, _ = files
    token = tmp_path / "token"
    token.write_text("of-the-service\n")
    made = Settings(**settings, tls_server_name="mekiki", service_token_file=token)
    for options in (neighbour_options(made), worker_options(made)):
        credentials = options.credentials
        shown = (credentials.ca, credentials.cert, credentials.key, credentials.server_name)
        assert shown == (settings["tls_client_ca"], settings["tls_cert"], settings["tls_key"], "mekiki")
    assert worker_options(made).retry.attempts > 10 * neighbour_options(made).retry.attempts - 1
    assert worker_options(made).credentials.metadata() == (("authorization", "Bearer of-the-service"),)
    assert neighbour_options(made).credentials.metadata() == ()
    assert not neighbour_options(Settings()).credentials.is_secure


async def test_with_tls_and_tokens_both_are_needed(serve, files, tmp_path):
    settings, credentials = files
    tokens = write_tokens(tmp_path / "tokens.json", ("lina", ["line"]))
    address = await serve(open_echoes([]), **settings, auth_tokens=tokens)
    with pytest.raises(errors.Unauthenticated):
        await ask(address, credentials)
    shown = mekiki.Credentials(ca=credentials.ca, cert=credentials.cert, key=credentials.key, token="lina")
    assert await ask(address, shown) == ()
