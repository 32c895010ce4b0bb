"""Generates Python from the protos beside the SDK, so that one import root serves users and services."""

import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
PACKAGE = ROOT / "clients" / "python" / "mekiki"


def main() -> None:
    """Generates messages, stubs and their types."""
    files = sorted(PROTOS.glob("mekiki/*/v1/*.proto"))
    for folder in {file.parent for file in files}:
        shutil.rmtree(PACKAGE / folder.relative_to(PROTOS / "mekiki"), ignore_errors=True)
    out = PACKAGE.parent
    arguments = ["protoc", f"-I{PROTOS}", f"-I{distribution('grpcio-tools').locate_file('grpc_tools/_proto')}"]
    arguments += [f"--python_out={out}", f"--grpc_python_out={out}", f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}"]
    arguments += [f"--plugin=protoc-gen-{name}={Path(sys.prefix) / 'bin' / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    if protoc.main([*arguments, *map(str, files)]) != 0:
        raise SystemExit("protoc failed")
    for folder in {file.parent for file in files}:
        made = PACKAGE / folder.relative_to(PROTOS / "mekiki")
        for package in (made, made.parent):
            (package / "__init__.py").touch()


if __name__ == "__main__":
    main()
