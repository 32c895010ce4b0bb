"""Every RPC of every proto, called by every role."""

import grpc
import pytest

from services.runtime.roles import RULES, UNKNOWN, Role, read_role, rule_of
from tests.runtime.echoes import METHODS, OURS, call, open_echoes, path_of
from tests.runtime.identities import bearer, write_tokens

ROLES = {"nobody": Role.NOBODY, "known": Role.KNOWN, "line": Role.LINE, "engineer": Role.ENGINEER, "admin": Role.ADMIN}


def test_every_rpc_of_every_proto_has_a_role_and_no_other_has():
    assert {path_of(method) for method in METHODS} == set(RULES)


def test_an_rpc_that_nobody_wrote_down_is_for_admins():
    assert rule_of("/some.new.v1.Service/Call") is UNKNOWN
    assert UNKNOWN.role is Role.ADMIN


def test_only_health_is_for_everybody():
    public = {path for path, rule in RULES.items() if rule.role is Role.NOBODY}
    assert {path.split("/")[1] for path in public} == {"grpc.health.v1.Health"}


def test_a_line_scores_and_changes_nothing():
    assert not any(rule.changes for rule in RULES.values() if rule.role <= Role.LINE)


def test_what_deletes_is_for_admins_and_what_starts_with_a_verb_of_change_is_audited():
    for method in OURS:
        rule = rule_of(path_of(method))
        assert (rule.role is Role.ADMIN) == method.name.startswith("Delete"), method.name
        harmless = (
            "Get",
            "List",
            "Read",
            "Score",
            "Classify",
            "Explain",
            "Detect",
            "Segment",
            "Filter",
            "Fit",
            "Prepare",
            "Preview",
            "AnnotateImage",
        )
        assert rule.changes != method.name.startswith(harmless), method.name


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (["line"], Role.LINE),
        (["line", "admin"], Role.ADMIN),
        ([], Role.KNOWN),
        (["root", "NOBODY", "Admin"], Role.KNOWN),
        (None, Role.KNOWN),
        ("admin", Role.KNOWN),
        ([["admin"], {"admin": 1}, 4], Role.KNOWN),
    ],
)
def test_a_role_is_read_from_a_list_of_its_names_and_from_nothing_else(names, role):
    assert read_role(names) is role


@pytest.mark.parametrize("name", ROLES)
async def test_every_rpc_answers_every_role_as_the_table_says(serve, tmp_path, name):
    role = ROLES[name]
    listed = [name] if role >= Role.LINE else []
    tokens = write_tokens(tmp_path / "tokens.json", (f"token-{name}", listed))
    asked = []
    address = await serve(open_echoes(asked), auth_tokens=tokens)
    async with grpc.aio.insecure_channel(address) as channel:
        for method in METHODS:
            least = rule_of(path_of(method)).role
            code = await code_of(channel, method, bearer(f"token-{name}") if role else ())
            refusals = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
            if role >= least:
                assert code not in refusals, method.full_name
                assert code is grpc.StatusCode.OK or method not in OURS, method.full_name
            else:
                expected = grpc.StatusCode.PERMISSION_DENIED if role else grpc.StatusCode.UNAUTHENTICATED
                assert code is expected, method.full_name
    assert len(asked) == sum(role >= rule_of(path_of(method)).role for method in OURS)


@pytest.mark.parametrize("shown", [(), bearer("anything")])
async def test_without_a_file_of_tokens_everything_is_open(serve, shown):
    asked = []
    address = await serve(open_echoes(asked))
    async with grpc.aio.insecure_channel(address) as channel:
        for method in OURS:
            assert await code_of(channel, method, shown) is grpc.StatusCode.OK
    assert len(asked) == len(OURS)


async def code_of(channel, method, metadata):
    try:
        await call(channel, method, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
