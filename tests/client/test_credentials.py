import itertools
import time

import pytest

import mekiki
from mekiki import errors
from mekiki._wire import watched
from mekiki._wire.watched import Watched
from tests.client.fake_server import FAST
from tests.runtime.identities import Authority


@pytest.fixture
def at_once(monkeypatch):
    """Files are looked at every time."""
    monkeypatch.setattr(watched, "LOOK_EVERY_S", 0.0)


def ask(server, credentials):
    options = mekiki.ClientOptions(credentials=credentials, retry=mekiki.RetryPolicy(attempts=1))
    with mekiki.Client(server.address, options=options) as client:
        client.codec.get_dataset("screws")
    return server.calls("GetDataset")[-1].metadata.get("authorization")


def test_a_token_goes_with_every_call(server):
    options = mekiki.ClientOptions(credentials=mekiki.Credentials(token="abc.def"), retry=FAST.retry)
    with mekiki.Client(server.address, options=options) as client:
        client.codec.get_dataset("a")
        client.codec.encode_dataset("a")
        list(client.codec.read_items("a"))
        list(client.anomaly.score_images("a", [b"png"]))
        client.operations.list_operations("codec")
        client.check_service("codec")
    assert len(server.asked) == 6
    assert {asked.metadata["authorization"] for asked in server.asked} == {"Bearer abc.def"}


def test_without_a_token_no_header_is_sent(server):
    assert ask(server, mekiki.Credentials()) is None


def test_a_token_file_is_read_again_once_it_has_changed(server, tmp_path, at_once):
    file = tmp_path / "token"
    file.write_text("first\n")
    options = mekiki.ClientOptions(credentials=mekiki.Credentials(token_file=file))
    with mekiki.Client(server.address, options=options) as client:
        for token in ("first", "second-and-longer"):
            file.write_text(f"{token}\n")
            client.codec.get_dataset("a")
        file.unlink()
        client.codec.get_dataset("a")
    shown = [asked.metadata["authorization"] for asked in server.calls("GetDataset")]
    assert shown == ["Bearer first", "Bearer second-and-longer", "Bearer second-and-longer"]


def test_the_next_attempt_shows_the_token_of_then(server):
    import grpc

    server.answers["GetDataset"] = lambda _request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    tokens = (f"number-{number}" for number in itertools.count())
    credentials = mekiki.Credentials(token=lambda: next(tokens))
    options = mekiki.ClientOptions(credentials=credentials, retry=FAST.retry)
    with mekiki.Client(server.address, options=options) as client, pytest.raises(errors.Unavailable):
        client.codec.get_dataset("a")
    shown = [asked.metadata["authorization"] for asked in server.calls("GetDataset")]
    assert shown == [f"Bearer number-{number}" for number in range(FAST.retry.attempts)]


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "caf\u00e9", "a,b", "a=b"])
def test_what_is_no_token_is_refused_before_it_is_sent_and_not_repeated(token, tmp_path):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    for made in ({"token": token}, {"token_file": tmp_path / "token"}):
        with pytest.raises(ValueError, match="bearer token") as caught:
            mekiki.Credentials(**made)
        assert token not in str(caught.value)


def test_nothing_shown_tells_the_token():
    options = mekiki.ClientOptions(
        credentials=mekiki.Credentials(token="s3cret"), metadata=(("authorization", "s3cret"),)
    )
    assert "s3cret" not in repr(options)


def test_what_does_not_belong_together_is_refused(tmp_path):
    authority = Authority()
    ca, pair, other = authority.write(tmp_path / "ca"), authority.issue(tmp_path, "a"), authority.issue(tmp_path, "b")
    for wrong in ({"cert": pair.cert}, {"ca": ca, "key": pair.key}, {"cert": pair.cert, "key": pair.key}):
        with pytest.raises(ValueError, match="all of ca, cert and key"):
            mekiki.Credentials(**wrong)
    with pytest.raises(ValueError, match="not both"):
        mekiki.Credentials(token="a", token_file=ca)
    for wrong in ({"ca": tmp_path / "absent"}, {"ca": pair.key}, {"ca": ca, "cert": pair.cert, "key": other.key}):
        with pytest.raises(OSError, match=r"absent|a\.key|b\.key"):
            mekiki.Credentials(**wrong)


def test_a_watched_value_stays_while_its_files_make_no_sense(tmp_path, at_once):
    file, told = tmp_path / "number", []
    file.write_text("1")
    number = Watched([file], lambda: int(file.read_text()), told.append)
    assert number.value() == 1
    file.write_text("two")
    assert [number.value() for _ in range(5)] == [1] * 5
    assert len(told) == 1, "it is said once"
    file.write_text("333")
    assert number.value() == 333


def test_files_are_not_looked_at_all_the_time(tmp_path):
    file, reads = tmp_path / "number", itertools.count()
    file.write_text("1")
    number = Watched([file], lambda: next(reads))
    for text in range(10):
        file.write_text("x" * text)
        assert number.value() == 0
    time.sleep(watched.LOOK_EVERY_S)
    assert number.value() == 1
