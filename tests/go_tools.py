"""Programs that tests need and that are written in Go: built once a machine, kept in the user's cache folder."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mekiki-tools"


@dataclass(frozen=True)
class GoTool:
    """A program: its Go module, its package in it, its version, and what stands still without it."""

    name: str
    module: str
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
        with tempfile.TemporaryDirectory() as folder:
            # Not `go install`: it asks for the list of versions, too, which a proxy may not have of a module.
            for command in (
                ["mod", "init", "tool"],
                ["mod", "edit", f"-require={self.module}@v{self.version}"],
                ["build", "-mod=mod", "-o", str(program), f"{self.module}/{self.package}"],
            ):
                ran = subprocess.run([go, *command], cwd=folder, capture_output=True, text=True, check=False)
                if ran.returncode != 0:
                    why = ran.stderr.strip().splitlines()[-1:]
                    pytest.skip(f"{self.missing}: {self.name} cannot be built here: {why}")
