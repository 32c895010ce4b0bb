"""Makes what is not committed: Python from the protos, and the sync client from the async one.

Both land beside the SDK, so that one import root serves users and services. Nothing is done when nothing changed, and
a file is replaced only where its text differs, so that running this beside running tests harms nobody.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import unasync  # type: ignore[import-untyped]
from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
SDK = ROOT / "clients" / "python"
ASYNC = SDK / "mekiki" / "_async"
SYNC = SDK / "mekiki" / "_sync"
STAMP = ROOT / "build" / "generated.sha256"

# What unasync does not know by itself.
COLOURS = {
    "_async": "_sync",
    "asynchronous": "synchronous",
    "aclosing": "closing",
    "AsyncAnomaly": "Anomaly",
    "AsyncBoxfit": "Boxfit",
    "AsyncClient": "Client",
    "AsyncCodec": "Codec",
    "AsyncOperation": "Operation",
    "AsyncOperations": "Operations",
    "AsyncSaliency": "Saliency",
}


def main() -> None:
    """Generates everything that is out of date."""
    inputs = [Path(__file__), *sorted(PROTOS.rglob("*.proto")), *sorted(ASYNC.glob("*.py"))]
    digest = _digest(inputs)
    if STAMP.exists() and STAMP.read_text() == digest and all(path.exists() for path in _expected()):
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        _generate_from_protos(made)
        _generate_sync(made)
        _replace(made)
    STAMP.parent.mkdir(parents=True, exist_ok=True)
    STAMP.write_text(digest)


def _digest(inputs: list[Path]) -> str:
    """One number for the inputs and the tools that read them."""
    digest = hashlib.sha256()
    for tool in ("grpcio-tools", "mypy-protobuf", "unasync"):
        digest.update(f"{tool} {distribution(tool).version}\n".encode())
    for path in inputs:
        digest.update(f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _contract() -> list[Path]:
    return sorted(PROTOS.glob("mekiki/*/v1/*.proto"))


def _expected() -> Iterator[Path]:
    """One file of each kind that must be there: somebody may have deleted them by hand."""
    for proto in _contract():
        yield SDK / proto.relative_to(PROTOS).with_name(f"{proto.stem}_pb2_grpc.py")
    for source in ASYNC.glob("*.py"):
        yield SYNC / source.name


def _generate_from_protos(out: Path) -> None:
    """Messages, stubs and their types. google/* comes with its own wheel, so nothing is generated for it."""
    bundled = distribution("grpcio-tools").locate_file("grpc_tools/_proto")
    tools = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{name}={tools / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}", f"--mypy_out=quiet:{out}"]
    outputs += [f"--mypy_grpc_out=quiet:{out}"]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{bundled}", *outputs, *plugins, *map(str, _contract())]) != 0:
        raise SystemExit("protoc failed")
    for folder in {(out / proto.relative_to(PROTOS)).parent for proto in _contract()}:
        (folder / "__init__.py").touch()
        (folder.parent / "__init__.py").touch()


def _generate_sync(out: Path) -> None:
    """The sync client: the async one without async and await, over the other transport."""
    target = out / "mekiki" / "_sync"
    rule = unasync.Rule(fromdir=str(ASYNC), todir=str(target), additional_replacements=COLOURS)
    unasync.unasync_files([str(path) for path in ASYNC.glob("*.py")], [rule])
    for path in target.glob("*.py"):
        path.write_text(f"# Generated from _async by generate.py.\n{path.read_text()}")


def _replace(made: Path) -> None:
    """Brings what was made into the SDK, and removes what is not made any more."""
    new = {path.relative_to(made): path for path in made.rglob("*") if path.is_file()}
    for folder in {path.parent for path in new}:
        (SDK / folder).mkdir(parents=True, exist_ok=True)
        for old in (SDK / folder).glob("*.py*"):
            if old.is_file() and old.relative_to(SDK) not in new:
                old.unlink()
    for relative, path in new.items():
        target = SDK / relative
        if not target.exists() or target.read_bytes() != path.read_bytes():
            beside = target.with_name(f".{target.name}.new")
            beside.write_bytes(path.read_bytes())
            beside.replace(target)


if __name__ == "__main__":
    main()
