"""A peer's engine at work in its own environment, asked over its standard input and output."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

CHILD = Path(__file__).with_name("anomalib_child.py")


@dataclass(frozen=True)
class PeerJob:
    """What one engine is trained on and asked about; paths are strings, for they travel as JSON."""

    engine: str  # patchcore or padim
    train: list[str]
    test: list[str]
    shape: tuple[int, int]  # (h, w) that images are resized to
    layers: list[str]  # of timm's network, of strides 8 and 16
    weights: str
    coreset: float
    threads: int


@dataclass(frozen=True)
class PeerTraining:
    """How long training took, and how much the bank holds."""

    embed_s: float
    step_s: float  # of each vector that PatchCore chooses
    fit_s: float  # of the Gaussians, where there are some; else of our way to choose
    bank: int


class Peer:
    """The process; use it as a context manager.

    Args:
        python: interpreter of the peers' environment.
        job: what it is trained on.
    """

    def __init__(self, python: Path, job: PeerJob) -> None:
        environment = {"OMP_NUM_THREADS": str(job.threads), "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(python), str(CHILD)],
            env=environment | {"HOME": os.environ.get("HOME", "/tmp")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.training = PeerTraining(**self._ask(asdict(job)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._log.close()

    def draw_bank(self, share: float) -> int:
        """Put a random share of all vectors into the bank in place of the coreset; returns how many."""
        return int(self._ask({"do": "draw_bank", "share": share})["bank"])

    def rate(self, count: int, batch: int) -> float:
        """Images a second over the first `count` images of the test."""
        return float(self._ask({"do": "rate", "count": count, "batch": batch})["images_per_s"])

    def judge(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Scores (n,) and heat maps (n, h, w) of all images of the test."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "found.npz"
            self._ask({"do": "save", "path": str(path)})
            with np.load(path) as found:
                return found["scores"].astype(np.float64), found["maps"]

    def _ask(self, request: dict[str, object]) -> dict[str, float]:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._log.seek(0)
            raise RuntimeError(f"the peer ended: {self._log.read()[-3000:]}")
        return json.loads(answer)
