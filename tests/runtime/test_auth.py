"""Who gets in, and who does not."""

import asyncio
import json
import time

import grpc
import jwt
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mekiki.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc
from services.runtime import errors
from services.runtime.auth import Authenticator, read_keys, read_tokens
from services.runtime.config import Settings
from services.runtime.gate import Gate
from services.runtime.roles import Role
from tests.runtime.echoes import open_echoes
from tests.runtime.identities import (
    AUDIENCE,
    CURVE_KEY,
    ISSUER_KEY,
    STRANGER_KEY,
    bearer,
    hashed,
    make_jwt,
    public_pem,
    write_jwks,
    write_tokens,
)

NOW = int(time.time())
PUBLIC = public_pem()


@pytest.fixture
def settings(tmp_path):
    jwks = write_jwks(tmp_path / "jwks.json")
    tokens = write_tokens(tmp_path / "tokens.json", ("night-shift", ["engineer"], "plant-a"))
    return {"auth_jwks": jwks, "auth_audience": AUDIENCE, "auth_tokens": tokens}


@pytest.fixture
async def stub(serve, settings):
    asked = []
    address = await serve(open_echoes(asked), **settings)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = anomaly_pb2_grpc.AnomalyServiceStub(channel)
        stub.asked = asked
        yield stub


async def score(stub, metadata):
    try:
        await stub.ScoreImage(anomaly_pb2.ScoreImageRequest(detector="plant-a.x"), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        info = error_details_pb2.ErrorInfo()
        rpc_status.from_call(error).details[0].Unpack(info)
        return error.code().name, info.reason, error.details()
    return "OK", "", ""


GOOD = {
    "RS256": make_jwt(),
    "ES256": make_jwt(CURVE_KEY, "ES256", "ec-1"),
    "several audiences": make_jwt(aud=["other", AUDIENCE]),
    "listed": "night-shift",
}


@pytest.mark.parametrize("token", GOOD.values(), ids=GOOD)
async def test_a_good_token_lets_in(stub, token):
    assert await score(stub, bearer(token)) == ("OK", "", "")


def forge_with_public_key():
    """HS256 with the public key as the secret (RFC 8725, section 2.1); PyJWT itself refuses to make it."""
    import base64
    import hashlib
    import hmac

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    header = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa-1"}).encode())
    body = part(json.dumps({"sub": "x", "aud": AUDIENCE, "exp": NOW + 3600, "roles": ["admin"]}).encode())
    signed = header + b"." + body
    return (signed + b"." + part(hmac.new(PUBLIC, signed, hashlib.sha256).digest())).decode()


def change_payload():
    head, _, tail = make_jwt().split(".")
    return ".".join([head, make_jwt(roles=["admin"]).split(".")[1], tail])


BAD = {
    "alg none": jwt.encode({"sub": "x", "aud": AUDIENCE, "exp": NOW + 3600, "roles": ["admin"]}, None, "none"),
    "HS256 with the public key": forge_with_public_key(),
    "another's key": make_jwt(STRANGER_KEY),
    "another's key that names no id": make_jwt(STRANGER_KEY, kid=None),
    "an unknown key id": make_jwt(kid="rsa-2"),
    "RS384": make_jwt(algorithm="RS384"),
    "RS512": make_jwt(algorithm="RS512"),
    "PS256": make_jwt(algorithm="PS256"),
    "the wrong kind of key": make_jwt(CURVE_KEY, "ES256", "rsa-1"),
    "a changed payload": change_payload(),
    "no signature": make_jwt().rpartition(".")[0] + ".",
    "wrong audience": make_jwt(aud="another-service"),
    "no audience": make_jwt(without=["aud"]),
    "not yet": make_jwt(nbf=NOW + 3600),
    "no end": make_jwt(without=["exp"]),
    "no subject": make_jwt(without=["sub"]),
    "an empty tenant": make_jwt(tenant=""),
    "a tenant that is none": make_jwt(tenant=["plant-a"]),
    "no tenant, said so": make_jwt(tenant=None),
    "a tenant with a dot": make_jwt(tenant="plant-a.x"),
    "unlisted": "day-shift",
    "the hash of a listed token": hashed("night-shift", [])["sha256"],
    "dots": "..",
    "nothing but letters": "a.b.c",
    "long": "x" * 4000,
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD)
async def test_a_bad_token_is_refused_in_the_same_words_and_the_next_call_works(stub, token):
    refused = await score(stub, bearer(token))
    assert refused == ("UNAUTHENTICATED", "TOKEN_INVALID", "the token is not valid here")
    assert await score(stub, bearer(GOOD["RS256"])) == ("OK", "", "")
    assert len(stub.asked) == 1


async def test_an_expired_token_says_so(stub):
    refused = await score(stub, bearer(make_jwt(exp=NOW - 60)))
    assert refused[:2] == ("UNAUTHENTICATED", "TOKEN_EXPIRED")


async def test_two_clocks_may_differ_by_a_few_seconds(stub):
    assert (await score(stub, bearer(make_jwt(exp=int(time.time()) - 2))))[0] == "OK"
    assert (await score(stub, bearer(make_jwt(nbf=int(time.time()) + 5))))[0] == "OK"


async def test_an_expired_token_of_a_stranger_is_just_invalid(stub):
    assert (await score(stub, bearer(make_jwt(STRANGER_KEY, exp=NOW - 60))))[1] == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "TOKEN_MISSING"),
        ((("authorization", ""),), "TOKEN_INVALID"),
        ((("authorization", "Bearer"),), "TOKEN_INVALID"),
        ((("authorization", "Basic bmlnaHQtc2hpZnQ="),), "TOKEN_INVALID"),
        ((("authorization", "night-shift"),), "TOKEN_INVALID"),
        ((*bearer("night-shift"), *bearer("night-shift")), "TOKEN_INVALID"),
        ((("x-authorization", "Bearer night-shift"),), "TOKEN_MISSING"),
    ],
)
async def test_a_header_that_shows_no_token_is_refused(stub, metadata, reason):
    assert (await score(stub, metadata))[:2] == ("UNAUTHENTICATED", reason)
    assert stub.asked == []


async def test_whoever_is_not_let_in_cannot_make_the_service_read_a_message(serve, settings):
    """The message would be refused as too large; that nobody says so shows that nobody read it."""
    address = await serve(open_echoes([]), **settings, max_message_bytes=1 << 20)
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = anomaly_pb2_grpc.AnomalyServiceStub(channel)
        request = anomaly_pb2.ScoreImageRequest()
        request.image.encoded = bytes(4 << 20)
        for shown, expected in (((), "UNAUTHENTICATED"), (bearer("night-shift"), "RESOURCE_EXHAUSTED")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ScoreImage(request, metadata=shown)
            assert caught.value.code().name == expected


async def test_health_needs_no_token_and_minds_no_bad_one(serve, settings):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = await serve(open_echoes([]), **settings)
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for shown in ((), bearer("day-shift")):
            answer = await health.Check(health_pb2.HealthCheckRequest(), metadata=shown)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_changed_files_are_read_again(stub, settings, tmp_path):
    write_tokens(settings["auth_tokens"], ("day-shift", ["line"]))
    write_jwks(settings["auth_jwks"], {"rsa-1": STRANGER_KEY})
    await asyncio.sleep(1.1)
    assert (await score(stub, bearer("day-shift")))[0] == "OK"
    assert (await score(stub, bearer(make_jwt(STRANGER_KEY))))[0] == "OK"
    assert (await score(stub, bearer("night-shift")))[0] == "UNAUTHENTICATED"
    assert (await score(stub, bearer(make_jwt())))[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize("damage", ["", "{", '[{"sha256": "x"}]', None])
async def test_a_file_that_was_damaged_lets_in_whom_it_let_in_before(stub, settings, damage):
    path = settings["auth_tokens"]
    path.unlink() if damage is None else path.write_text(damage)
    await asyncio.sleep(1.1)
    assert (await score(stub, bearer("night-shift")))[0] == "OK"
    assert (await score(stub, bearer("day-shift")))[0] == "UNAUTHENTICATED"


def identify(token, **settings):
    return Authenticator(Settings(**settings)).identify(bearer(token))


def test_claims_become_a_caller(settings):
    caller = identify(make_jwt(sub="anna", roles=["line", "engineer"], tenant="plant-a"), **settings)
    assert (caller.subject, caller.role, caller.tenant) == ("anna", Role.ENGINEER, "plant-a")
    assert identify(make_jwt(without=["roles"]), **settings).role is Role.KNOWN
    listed = identify("night-shift", **settings)
    assert (listed.subject, listed.role, listed.tenant) == ("night-shift-subject", Role.ENGINEER, "plant-a")


def test_a_caller_shown_in_a_log_shows_no_token(settings):
    assert "night-shift'" not in repr(identify("night-shift", **settings))


def test_an_issuer_is_checked_where_one_is_set(settings):
    assert identify(make_jwt(iss="plant"), **settings, auth_issuer="plant").subject == "line-3"
    for token in (make_jwt(iss="other"), make_jwt()):
        with pytest.raises(errors.Unauthenticated):
            identify(token, **settings, auth_issuer="plant")


def test_a_token_without_a_key_id_fits_a_file_with_one_key(tmp_path):
    jwks = write_jwks(tmp_path / "jwks.json", {"rsa-1": ISSUER_KEY})
    assert identify(make_jwt(kid=None), auth_jwks=jwks, auth_audience=AUDIENCE).subject == "line-3"


SECRET = {"kty": "oct", "kid": "s", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": []}', '{"keys": [1]}', json.dumps({"keys": [SECRET]})])
def test_a_file_without_a_public_key_is_refused(text):
    with pytest.raises(ValueError, match="it "):
        read_keys(text)


def test_keys_for_other_purposes_are_left_aside(tmp_path):
    listed = json.loads(write_jwks(tmp_path / "jwks.json").read_text())["keys"]
    other = [SECRET, {**listed[0], "kid": "e", "use": "enc"}, {**listed[0], "kid": "f", "alg": "RS512"}]
    assert set(read_keys(json.dumps({"keys": [*other, *listed]}))) == {"rsa-1", "ec-1"}


GOOD_ENTRY = hashed("x", ["line"])


@pytest.mark.parametrize(
    "entry",
    [
        {**GOOD_ENTRY, "sha256": "x"},
        {**GOOD_ENTRY, "sha256": "A" * 64},
        {**GOOD_ENTRY, "roles": ["root"]},
        {**GOOD_ENTRY, "roles": "admin"},
        {**GOOD_ENTRY, "tenant": ""},
        {**GOOD_ENTRY, "tenant": "plant.a"},
        {**GOOD_ENTRY, "tenants": "plant-a"},
        {**GOOD_ENTRY, "subject": ""},
    ],
)
def test_a_damaged_list_of_tokens_is_refused_without_saying_what_is_in_it(entry):
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_tokens(json.dumps([entry]))
    assert GOOD_ENTRY["sha256"] not in str(caught.value)


def test_a_damaged_file_is_said_at_the_start(tmp_path):
    path = tmp_path / "tokens.json"
    path.write_text("[")
    with pytest.raises(errors.FailedPrecondition, match=r"tokens\.json"):
        Gate(Settings(auth_tokens=path))


def test_settings_that_leave_a_door_open_are_refused(tmp_path):
    from pydantic import ValidationError

    file = write_jwks(tmp_path / "jwks.json")
    for wrong in ({"auth_jwks": file}, {"auth_tokens": tmp_path / "absent"}, {"tls_key": file}, {"tls_cert": file}):
        with pytest.raises(ValidationError):
            Settings(**wrong)
