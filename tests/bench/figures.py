"""What every benchmark ends with: a table, and the same figures as JSON under build/bench.

The last figure says how much of the machine there was: times from a virtual machine whose host was busy say little.
"""

import json
import operator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench"


@dataclass(frozen=True)
class Figure:
    """One measured figure; `met` is None where there is no goal."""

    figure: str
    value: float
    unit: str
    goal: float | None
    better: str
    met: bool | None


class Figures:
    """Collects the figures of one benchmark."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._figures: list[Figure] = []
        self._start = psutil.cpu_times()

    def add(self, figure: str, value: float, unit: str, goal: float | None = None, better: str = "higher") -> None:
        """Adds a figure; `better` is "higher" or "lower" and says how it is held against the goal."""
        reaches = {"higher": operator.ge, "lower": operator.le}[better]
        met = None if goal is None else bool(reaches(value, goal))
        self._figures.append(Figure(figure, float(value), unit, goal, better, met))

    def finish(self) -> None:
        """Prints the table and writes build/bench/<name>.json."""
        self.add("processor time the host kept from this machine, while it was wanted", self._find_stolen(), "%")
        table = Table("figure", "value", "unit", "goal", "met", title=self._name)
        for figure in self._figures:
            goal = "" if figure.goal is None else f"{'>=' if figure.better == 'higher' else '<='} {figure.goal:g}"
            met = {None: "", True: "yes", False: "NO"}[figure.met]
            table.add_row(figure.figure, f"{figure.value:.4g}", figure.unit, goal, met)
        Console(width=140).print(table)
        FOLDER.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(figure) for figure in self._figures], indent=2)
        (FOLDER / f"{self._name}.json").write_text(text + "\n")

    def _find_stolen(self) -> float:
        """Percent of the time that was wanted since the start; 0 where the system does not tell."""
        now = psutil.cpu_times()
        spent = {name: after - before for name, after, before in zip(now._fields, now, self._start, strict=True)}
        wanted = sum(spent.values()) - spent.get("idle", 0) - spent.get("iowait", 0)
        return 100 * spent.get("steal", 0) / wanted if wanted > 0 else 0.0
