"""All four services as a user runs them: one process, one port, a store on disk. For tests and benchmarks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Running:
    """A running `python -m services`."""

    address: str
    pid: int
    store_url: str


@contextmanager
def running_services(folder: Path, environment: dict[str, str]) -> Iterator[Running]:
    """Starts the services with a store in `folder`, and stops them with SIGTERM; they must then exit with 0."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MEKIKI_")}
    store = f"file://{folder / 'store'}"
    paths = f"{ROOT}:{ROOT / 'clients/python'}"
    settings = {"PYTHONPATH": paths, "MEKIKI_PORT": "0", "MEKIKI_STORE_URL": store, **environment}
    with (folder / "services.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services"],
            cwd=ROOT,
            env=inherited | settings,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Running(process.stdout.readline().split()[-1], process.pid, store)
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                raise RuntimeError(f"the services exited with {process.returncode}; see {folder / 'services.log'}")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
