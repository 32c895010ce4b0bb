"""All four services as a user runs them: one process, one port, a store on disk."""

import os
import signal
import subprocess
import sys

import pytest

import mekiki
from mekiki.sample_parts import render_parts
from tests.conftest import ROOT


class House:
    """A running `python -m services`."""

    def __init__(self, folder):
        self._log = (folder / "log").open("w")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MEKIKI_")},
            "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}",
            "MEKIKI_PORT": "0",
            "MEKIKI_STORE_URL": f"file://{folder / 'store'}",
            "MEKIKI_WEIGHTS_HUB": "false",
            "MEKIKI_MAX_MESSAGE_BYTES": str(16 << 20),
        }
        command = [sys.executable, "-m", "services"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=self._log)
        self.address = self.process.stdout.readline().decode().split()[-1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self._log.close()


@pytest.fixture(scope="session")
def house(tmp_path_factory):
    running = House(tmp_path_factory.mktemp("house"))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def client(house):
    with mekiki.Client(house.address) as made:
        yield made


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    render_parts(folder, count=30, seed=3, kinds=("screw",), size=160)
    return folder
