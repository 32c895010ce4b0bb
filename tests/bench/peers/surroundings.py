"""The environment that peers run in: their own, made on first use from pinned packages, in the user's cache."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]


def find_python(name: str = "peers.txt") -> Path | None:
    """The interpreter of an environment of pinned packages; None, and said why, where they cannot be had."""
    pins = FOLDER / name
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "mekiki-peers" / hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"making an environment of {name} in {folder}")
        try:
            _make(folder, python, pins)
        except subprocess.CalledProcessError as error:
            print(f"skipped: the packages of {name} cannot be had: {error.stderr.strip()[-500:]}")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        ready.touch()
    return python


def _make(folder: Path, python: Path, pins: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder]
    fill = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, pins]
    for command in (make, fill):
        subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
