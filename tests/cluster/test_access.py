"""TLS and tokens as the chart installs them: who is let in from a pod of the cluster, and who is not."""

import json

import pytest

from tests.cluster.plant import HERE, RELEASE, SERVICES
from tests.runtime.identities import Authority, hashed
from tests.waiting import wait_until

SECURED = (
    *("tls.enabled=true", "tls.existingSecret=tls", "auth.enabled=true"),
    *("auth.tokensSecret=tokens", "auth.serviceTokenSecret=service-token"),
)
CA, PAIR = {"ca": "/secret/ca.crt"}, {"cert": "/secret/line.crt", "key": "/secret/line.key"}
STRANGE = {"cert": "/secret/stranger.crt", "key": "/secret/stranger.key"}
KNOWN = {**CA, **PAIR}
ATTEMPTS = {
    "a line scores": ({**KNOWN, "token": "line-token"}, "score", "OK"),
    "a line deletes nothing": ({**KNOWN, "token": "line-token"}, "delete", "PermissionDenied"),
    "an engineer deletes nothing": ({**KNOWN, "token": "engineer-token"}, "delete", "PermissionDenied"),
    "an administrator may": ({**KNOWN, "token": "own"}, "delete", "NotFound"),
    "no token": (KNOWN, "score", "Unauthenticated"),
    "a token that nobody gave out": ({**KNOWN, "token": "guessed"}, "score", "Unauthenticated"),
    "no TLS": ({"token": "line-token"}, "score", "Unavailable"),
    "no certificate": ({**CA, "token": "line-token"}, "score", "Unavailable"),
    "a stranger's certificate": ({**CA, **STRANGE, "token": "line-token"}, "score", "Unavailable"),
    "a server of another CA": ({**PAIR, "ca": "/secret/other.crt", "token": "line-token"}, "score", "Unavailable"),
}

pytestmark = pytest.mark.timeout(900)


def make_secret(plant, name, files):
    arguments = [f"--from-file={file.name}={file}" for file in files]
    secret = plant.kubectl("create", "secret", "generic", name, *arguments, "--dry-run=client", "--output=yaml")
    plant.kubectl("apply", "--filename", "-", stdin=secret)


@pytest.fixture
def secured(plant, line_detectors, tmp_path):
    own, other = Authority(), Authority("Somebody else's CA")
    names = [f"{RELEASE}-{service}{end}" for service in SERVICES for end in ("", "-headless", "-headless.mekiki.svc")]
    server, line = own.issue(tmp_path, "tls", names), own.issue(tmp_path, "line")
    stranger = other.issue(tmp_path, "stranger")
    ca, others = own.write(tmp_path / "ca.crt"), other.write(tmp_path / "other.crt")
    tokens, token = tmp_path / "tokens.json", tmp_path / "token"
    entries = [hashed("line-token", ["line"]), hashed("engineer-token", ["engineer"]), hashed("own", ["admin"])]
    tokens.write_text(json.dumps(entries))
    token.write_text("own")
    make_secret(plant, "tls", (server.cert, server.key, ca))
    make_secret(plant, "tokens", (tokens,))
    make_secret(plant, "service-token", (token,))
    make_secret(plant, "visitor", (ca, others, line.cert, line.key, stranger.cert, stranger.key))
    plant.install(*SECURED)
    yield
    plant.install()


def test_only_who_may_gets_in(plant, secured):
    attempts = [(credentials, rpc) for credentials, rpc, _ in ATTEMPTS.values()]
    wish = {"address": f"{RELEASE}-anomaly-headless.mekiki.svc:8080", "attempts": attempts}
    plant.start_script("visitor", HERE / "visitor.py", wish, secret="visitor")
    phase = ("get", "pod", "visitor", "--output=jsonpath={.status.phase}")
    wait_until(lambda: plant.kubectl(*phase) in ("Succeeded", "Failed"), 180, "the visitor's end")
    said = plant.kubectl("logs", "visitor")
    assert dict(zip(ATTEMPTS, json.loads(said.splitlines()[-1]), strict=True)) == {
        name: outcome for name, (*_, outcome) in ATTEMPTS.items()
    }, said
