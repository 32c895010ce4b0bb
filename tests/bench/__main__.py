"""Runs the benchmarks that are named, or all: `python -m tests.bench boxfit serving`.

"anomaly" means each of its parts, such as anomaly_screw.
"""

import importlib
import sys
from pathlib import Path

_NOT_BENCHMARKS = {"__main__", "__init__", "boxed", "detectors", "figures", "judging", "object_studies", "preparing"}


def main() -> None:
    """Runs each benchmark's `main`; an unknown name is refused with those that exist."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_BENCHMARKS)
    asked = sys.argv[1:] or names
    meant = {word: [name for name in names if name == word or name.startswith(f"{word}_")] for word in asked}
    if unknown := [word for word, found in meant.items() if not found]:
        raise SystemExit(f"no benchmark {', '.join(unknown)}; there are {', '.join(names)}")
    importlib.import_module("services")  # before any torch: it sets what that reads as it loads
    for name in dict.fromkeys(name for found in meant.values() for name in found):
        importlib.import_module(f"tests.bench.{name}").main()


if __name__ == "__main__":
    main()
