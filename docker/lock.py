"""Writes docker/locks: what each image installs, in the versions of requirements.lock. Called by `make lock`.

torch and what it alone needs go into a lock of their own, so that the images that compute with it share one layer.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
PINS = "requirements.lock"
# torch compiles kernels with it where it is asked to, as nothing of ours does; a gigabyte.
UNUSED = ("triton",)


def main(compile_command: str) -> None:
    """Writes the locks with the given `uv pip compile` command."""
    command = [*shlex.split(compile_command), "--constraint", PINS]
    _compile(command, "builder", ["--group", "images"])
    for service in ("codec", "boxfit"):
        _compile(command, service, ["pyproject.toml", "--group", service])
    torch = _compile_torch(command)
    for service in ("saliency", "anomaly"):
        _compile(command, service, ["pyproject.toml", "--group", service, *_without(torch), *_without(UNUSED)])


def _compile(command: list[str], name: str, what: list[str]) -> list[str]:
    """Writes one lock and returns the names in it."""
    path = LOCKS / f"{name}.txt"
    path.unlink(missing_ok=True)
    subprocess.run([*command, *what, "--output-file", str(path)], check=True)  # noqa: S603
    return re.findall(r"^([A-Za-z0-9._-]+)==", path.read_text(encoding="utf-8"), re.MULTILINE)


def _compile_torch(command: list[str]) -> list[str]:
    """Locks torch with all that it needs."""
    pin = re.search(r"^torch==[^ ]+", Path(PINS).read_text(encoding="utf-8"), re.MULTILINE)
    if pin is None:
        raise SystemExit(f"{PINS} has no torch")
    source = LOCKS / "torch.in"
    source.write_text(f"{pin[0]}\n", encoding="utf-8")
    try:
        return _compile(command, "torch", [str(source), *_without(UNUSED)])
    finally:
        source.unlink()


def _without(packages: Iterable[str]) -> list[str]:
    return [argument for package in packages for argument in ("--no-emit-package", package)]


if __name__ == "__main__":
    main(sys.argv[1])
