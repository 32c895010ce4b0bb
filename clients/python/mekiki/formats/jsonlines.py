"""JSON files with long lists, written an element a line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class JsonParts:
    """An object of short values and of long lists."""

    values: Mapping[str, Any]
    lists: Mapping[str, Iterable[Any]]

    def write(self, path: Path) -> None:
        """Writes the file; raises OSError where that fails."""
        with path.open("w", encoding="utf-8") as file:
            file.write("{")
            for name, value in self.values.items():
                file.write(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)},\n")
            for number, (name, values) in enumerate(self.lists.items()):
                file.write(f"{',' if number else ''}{json.dumps(name)}: [")
                for place, value in enumerate(values):
                    file.write((",\n" if place else "\n") + json.dumps(value, ensure_ascii=False))
                file.write("\n]\n")
            file.write("}\n")
