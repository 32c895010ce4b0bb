"""The four services as a process of their own, on a free loopback port, for as long as the demonstration runs."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mekiki import Client, errors

SERVICES = ("codec", "saliency", "boxfit", "anomaly")
START_S = 180.0  # the first start compiles and imports a good deal
STOP_S = 45.0


class ServicesFailed(errors.Unavailable):
    """The services did not start; the text holds the end of their log."""


@dataclass(frozen=True)
class Host:
    """Services that have been started and may not be ready yet."""

    address: str  # host:port
    log: Path
    process: "subprocess.Popen[bytes]"

    def wait(self) -> str:
        """Return the address once all four services answer there.

        Raises:
            ServicesFailed: they ended early or did not answer in time.
        """
        _wait_until_serving(self.process, self.address, self.log)
        return self.address


@contextmanager
def host_services(out: Path) -> Iterator[Host]:
    """Start all services, and stop them when the block ends.

    Their store lies in `out`/store, their log in `out`/services.log.
    """
    log = out / "services.log"
    address = f"127.0.0.1:{_free_port()}"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "services"]
        process = subprocess.Popen(command, env=_environment(address, out), stdout=file, stderr=subprocess.STDOUT)  # noqa: S603 -- our own module
        try:
            yield Host(address, log, process)
        finally:
            _stop(process)


def _environment(address: str, out: Path) -> dict[str, str]:
    host, port = address.rsplit(":", 1)
    return {
        **os.environ,
        "MEKIKI_HOST": host,
        "MEKIKI_PORT": port,
        "MEKIKI_METRICS_PORT": "0",
        "MEKIKI_STORE_URL": (out / "store").resolve().as_uri(),
        "MEKIKI_CODEC_ADDRESS": address,
        "MEKIKI_SALIENCY_ADDRESS": address,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_serving(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    with Client(address) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServicesFailed(f"the services ended with exit code {process.returncode}:\n{_end_of(log)}")
            if all(client.check_service(service, timeout_s=2.0).is_serving for service in SERVICES):
                return
            time.sleep(0.2)
    raise ServicesFailed(f"the services did not answer within {START_S:.0f} s:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let the services drain; be firm only with those that will not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
