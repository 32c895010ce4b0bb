"""What a person sees while the demonstration runs: a bar per step, and how long each took."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mekiki import Operation
from mekiki.demo.figures import Figure
from mekiki.demo.results import Stage

Result = TypeVar("Result")
POLL_S = 0.4


class Bar:
    """The bar of one step."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, done: int, total: int, phase: str = "") -> None:
        """Move the bar; a total of 0 lets it swing."""
        self._progress.update(self._task, completed=done, total=total or None, phase=phase)

    def advance(self, count: int = 1) -> None:
        """Move the bar on."""
        self._progress.advance(self._task, count)

    def watch(self, operation: "Operation[Result]") -> Result:
        """Show a long-running operation until it ends and return its result.

        Raises:
            MekikiError: it failed.
        """
        while not operation.done():
            seen = operation.seen
            self.show(seen.done, seen.total, seen.phase)
            time.sleep(POLL_S)
        return operation.result()


class Narrator:
    """Tells a person what is going on."""

    def __init__(self, words: Console, bars: Console) -> None:
        self.stages: list[Stage] = []
        self._words = words
        self._bars = bars

    def say(self, sentence: str) -> None:
        """Print a sentence; nothing in it is taken for markup or reaches the terminal as a control character."""
        self._words.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)

    def tell_figures(self, title: str, figures: Iterable[Figure]) -> None:
        """Print a table of figures."""
        table = Table(title=Text(printable(title)), title_justify="left", show_header=False, box=None, padding=(0, 2))
        for figure in figures:
            table.add_row(figure.label, Text(figure.shown, style="bold"))
        self._words.print(table)

    @contextmanager
    def step(self, name: str, total: int = 0) -> Iterator[Bar]:
        """Show a bar while the step lasts, and remember how long it lasted."""
        begun = time.perf_counter()
        columns = (
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f}" if total else "{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[phase]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self._bars) as progress:
            task = progress.add_task(f"{name:<34}", total=total or None, phase="")
            yield Bar(progress, task)
            finished = progress.tasks[0].total or 1
            progress.update(task, completed=finished, total=finished, phase="")
        self.stages.append(Stage(name, time.perf_counter() - begun))


def printable(words: str) -> str:
    """Return text with everything but printable characters and line ends replaced."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in words)
