"""Runs the benchmarks that are named, or all: `python -m tests.bench boxfit serving`."""

import importlib
import sys
from pathlib import Path

_NOT_BENCHMARKS = {"__main__", "__init__", "figures"}


def main() -> None:
    """Runs each benchmark's `main`; an unknown name is refused with those that exist."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_BENCHMARKS)
    chosen = sys.argv[1:] or names
    if unknown := set(chosen) - set(names):
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    for name in chosen:
        importlib.import_module(f"tests.bench.{name}").main()


if __name__ == "__main__":
    main()
