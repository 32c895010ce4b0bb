"""Programs that tests need and that are written in Go: built once a machine, kept in the user's cache folder."""

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mekiki-tools"


@dataclass(frozen=True)
class GoTool:
    """A program, by its Go package and version, and what stands still without it."""

    name: str
    package: str
    version: str
    missing: str

    def find(self) -> Path:
        """Returns the program, building it if need be; skips the test, and says why, where that cannot be."""
        program = TOOLS / f"{self.name}-{self.version}"
        TOOLS.mkdir(parents=True, exist_ok=True)
        with (TOOLS / f".{self.name}.lock").open("w") as lock:  # tests run in parallel: one of them builds
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.exists():
                self._build(program)
        return program

    def _build(self, program: Path) -> None:
        go = shutil.which("go")
        if go is None:
            pytest.skip(f"{self.missing}: {self.name} is built with Go, which is not installed")
        built = subprocess.run(
            [go, "install", f"{self.package}@v{self.version}"],
            env={**os.environ, "GOBIN": str(TOOLS)},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            pytest.skip(f"{self.missing}: {self.name} cannot be built here: {built.stderr.strip().splitlines()[-1:]}")
        (TOOLS / self.name).rename(program)
