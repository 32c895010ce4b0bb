"""An S3 server for tests: versitygw, whose create-if-absent is exact. Built once a machine, with Go."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.go_tools import GoTool

VERSITYGW = GoTool("versitygw", "github.com/versity/versitygw", "cmd/versitygw", "1.8.0", "no S3 server")
KEY, SECRET = "test", "testtest1"


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Serves a bucket whose objects lie in `folder`, with AWS_* set for it; yields its URL, or skips and says why."""
    program = VERSITYGW.find()
    (folder / "parts").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    server = subprocess.Popen(
        [program, "--port", f"127.0.0.1:{port}", "--health", "/healthz", "posix", str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_healthy(server, port)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            patch.setenv("AWS_REGION", "us-east-1")
            patch.setenv("AWS_ACCESS_KEY_ID", KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            yield "s3://parts/line-7"
    finally:
        server.kill()
        server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None:
                break
            time.sleep(0.05)
    pytest.fail("versitygw did not start")
