import json

import pytest
from typer.testing import CliRunner

from mekiki import find_context
from mekiki.cli.app import app
from mekiki.cli.codes import ExitCode
from tests.runtime.identities import Authority


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    for name in ("ADDRESS", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"MEKIKI_{name}", raising=False)
    path = tmp_path / "config" / "contexts.json"
    monkeypatch.setenv("MEKIKI_CONTEXT_FILE", str(path))
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def shown_to(server):
    return server.asked[-1].metadata.get("authorization") if server.asked else "nobody came"


@pytest.fixture
def plant(server, tmp_path):
    """A context of the fake server, with a token."""
    token = tmp_path / "token"
    token.write_text("of-the-plant")
    result = invoke("context", "set", "plant", "--address", server.address, "--token-file", token)
    assert result.exit_code == ExitCode.DONE, result.output
    return server


def test_without_file_and_environment_it_is_this_machine():
    found = find_context()
    assert (found.address, found.credentials.metadata()) == ("127.0.0.1:8080", ())
    assert not found.credentials.is_secure


def test_the_current_context_says_where_to_go_and_what_to_show(plant):
    assert invoke("ops", "list", "codec").exit_code == ExitCode.DONE
    assert shown_to(plant) == "Bearer of-the-plant"


def test_the_environment_beats_the_context_and_the_option_beats_all(plant, monkeypatch):
    monkeypatch.setenv("MEKIKI_TOKEN", "of-the-environment")
    invoke("ops", "list", "codec")
    assert shown_to(plant) == "Bearer of-the-environment"
    monkeypatch.setenv("MEKIKI_ADDRESS", "127.0.0.1:1")
    assert find_context().address == "127.0.0.1:1"
    assert find_context("127.0.0.1:2").address == "127.0.0.1:2"


def test_another_address_gets_nothing_of_the_context(plant, monkeypatch):
    """Its token is for the plant; whoever else is spoken to must not see it."""
    assert find_context("127.0.0.1:1").credentials.metadata() == ()
    assert find_context(plant.address).credentials.metadata() == (("authorization", "Bearer of-the-plant"),)
    monkeypatch.setenv("MEKIKI_ADDRESS", "127.0.0.1:1")
    assert find_context().credentials.metadata() == ()


def test_a_ca_in_the_environment_turns_tls_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MEKIKI_CA", str(Authority().write(tmp_path / "ca.crt")))
    assert find_context("codec:8080").credentials.is_secure


def test_services_that_share_no_port_are_named_in_the_address(server, tmp_path):
    elsewhere = "saliency=127.0.0.1:1, boxfit=127.0.0.1:2"
    token = tmp_path / "token"
    token.write_text("of-the-plant")
    invoke("context", "set", "plant", "--address", f"{server.address},{elsewhere}", "--token-file", token)
    found = find_context()
    assert found.address == server.address
    assert dict(found.addresses) == {"saliency": "127.0.0.1:1", "boxfit": "127.0.0.1:2"}
    shown = [json.loads(line) for line in invoke("status", "--json").stdout.splitlines()]
    assert {each["address"] for each in shown if each["service"] in ("codec", "anomaly")} == {server.address}
    assert {each["address"] for each in shown if each["service"] == "boxfit"} == {"127.0.0.1:2"}
    assert shown_to(server) == "Bearer of-the-plant"


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("codec=a:1,saliency=b:1,boxfit=c:1", "no address for anomaly"),
        ("a:1,codecs=b:1", "names codecs"),
        ("a:1,b:1,codec=c:1", "host:port"),
        ("a:1,codec=", "host:port"),
        ("codec=a:1,codec=b:1,c:1", "host:port"),
    ],
)
def test_an_address_that_is_none_is_refused_by_what_is_wrong(file, address, complaint):
    result = invoke("status", "--address", address)
    assert result.exit_code == ExitCode.USAGE
    assert complaint in result.stderr
    assert invoke("context", "set", "a", "--address", address).exit_code == ExitCode.USAGE
    assert not file.exists()


def test_an_address_that_names_no_service_is_left_to_grpc():
    assert find_context("ipv4:10.0.0.1:8080,10.0.0.2:8080").address == "ipv4:10.0.0.1:8080,10.0.0.2:8080"


def test_contexts_are_listed_chosen_changed_and_forgotten(file, plant):
    invoke("context", "set", "lab", "--address", "lab:8080")
    listed = invoke("context", "list", "--json").stdout.splitlines()
    assert [(each["name"], each["current"]) for each in map(json.loads, listed)] == [("plant", True), ("lab", False)]
    assert invoke("context", "use", "lab").exit_code == ExitCode.DONE
    assert find_context().address == "lab:8080"
    invoke("context", "set", "lab", "--address", "lab:9090")
    assert find_context().address == "lab:9090"
    assert invoke("context", "delete", "lab").exit_code == ExitCode.DONE
    assert find_context().address == "127.0.0.1:8080"
    assert "plant" in invoke("context", "list").stdout


def test_the_file_holds_no_secret_and_only_its_owner_reads_it(file, plant):
    assert "of-the-plant" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["contexts.json"]


def test_relative_paths_begin_at_the_file(file, tmp_path):
    file.parent.mkdir()
    (file.parent / "token").write_text("beside-it")
    file.write_text(json.dumps({"current": "a", "contexts": {"a": {"address": "a:1", "token_file": "token"}}}))
    assert find_context().credentials.metadata() == (("authorization", "Bearer beside-it"),)


@pytest.mark.parametrize(
    "arguments",
    [
        ("context", "use", "nowhere"),
        ("context", "delete", "nowhere"),
        ("context", "set", "a b"),
        ("context", "set", "a", "--ca", "/absent/ca.crt"),
        ("context", "set", "a", "--cert", "/absent/a.crt"),
    ],
)
def test_a_mistake_is_said_and_changes_nothing(file, arguments):
    result = invoke(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("mekiki: ")
    assert not file.exists()


DAMAGED = [
    "", "[]", "{}", '{"current": "a"}', '{"current": "a", "contexts": {}}',
    '{"current": "", "contexts": {"a": {"adress": "x"}}}', '{"current": "", "contexts": {"a": {"address": 1}}}',
    '{"current": "", "contexts": {"a": "b"}}',
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_named(file, text):
    file.parent.mkdir()
    file.write_text(text)
    result = invoke("status")
    assert result.exit_code == ExitCode.USAGE
    assert "contexts.json" in result.stderr


def test_a_refusal_ends_with_its_own_exit_code_and_sentence(plant):
    import grpc

    plant.answers["ListOperations"] = lambda _r, context: context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "the token has expired"
    )
    result = invoke("ops", "list", "codec")
    assert result.exit_code == ExitCode.REFUSED
    assert "the token has expired" in result.stderr
