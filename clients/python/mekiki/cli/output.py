"""What a command shows: a table or a sentence for people, or one JSON value a line for scripts."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mekiki.cli.plain import safe, to_json, to_plain


class Bar:
    """A progress bar on standard error; nothing at all where that is no terminal."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(safe(title), total=None)

    def show(self, done: int, total: int | None, title: str = "") -> None:
        """So much of so much is done; a total of 0 or None is not known yet."""
        self._progress.update(self._task, completed=done, total=total or None)
        if title:
            self._progress.update(self._task, description=safe(title))


class Output:
    """Where a command writes. Foreign text never reaches the terminal as markup or control characters."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._people = Console(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._asides = Console(file=sys.stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def value(self, value: object) -> None:
        """A line of JSON; nothing for people."""
        if self.json:
            sys.stdout.write(to_json(value) + "\n")
            sys.stdout.flush()

    def say(self, text: str) -> None:
        """A sentence for people; nothing in JSON."""
        if not self.json:
            self._people.print(safe(text))

    def warn(self, text: str) -> None:
        """A sentence on standard error, for both."""
        self._asides.print(safe(text), style="yellow")

    def fail(self, error: Exception) -> None:
        """Why the command could not do what was asked: on standard error, and as JSON where that was asked for."""
        self._asides.print(f"mekiki: {safe(str(error) or type(error).__name__)}", style="red")
        plain = to_plain(error)
        self.value(plain if isinstance(plain, dict) else {"error": type(error).__name__, "message": str(error)})

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table for people; nothing in JSON."""
        if self.json:
            return
        table = Table(*columns, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(Text(safe(cell)) for cell in row))
        self._people.print(table, soft_wrap=False)

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        """A progress bar for what may take more than two seconds; it is gone at the end."""
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        quiet = not self._asides.is_terminal
        with Progress(*columns, console=self._asides, transient=True, disable=quiet) as progress:
            yield Bar(progress, title)
