"""Many images through one stream: shown as they are answered, counted at the end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import typer

from mekiki import Answer, Frame, Heatmap, ImageLike
from mekiki.cli.codes import ExitCode
from mekiki.cli.files import Places, paint_heatmap, read_pixels, write_pixels
from mekiki.cli.output import Output
from mekiki.cli.plain import to_plain

Value = TypeVar("Value")


class Answers(Protocol[Value]):
    """What the SDK's streams return."""

    def __iter__(self) -> Iterator[Answer[Value]]: ...
    def close(self) -> None:
        """Ends the stream."""


class Gallery(Generic[Value]):
    """Shows one answer an image, and remembers the values where `show` is asked to.

    Args:
        output: where to.
        paths: of the images.
        rows: what the table for people is to say of a value, a line or several with the same columns.
    """

    def __init__(
        self, output: Output, paths: Sequence[Path], rows: Callable[[Value], Sequence[Mapping[str, object]]]
    ) -> None:
        self._output = output
        self._paths = paths
        self._describe = rows
        self._rows: list[Mapping[str, object]] = []
        self._answered = 0
        self.values: dict[Path, Value] = {}

    def frames(self) -> Iterator[Frame[ImageLike]]:
        """The images to send, tagged with their running numbers."""
        return (Frame(path, str(number)) for number, path in enumerate(self._paths))

    def show(self, title: str, answers: Answers[Value]) -> None:
        """Shows all answers: a line of JSON for each as it comes, a table for people at the end.

        Raises:
            typer.Exit: a service refused some of the images.
        """
        self.values.update(self.walk(title, answers))
        self.tell()

    def walk(self, title: str, answers: Answers[Value]) -> Iterator[tuple[Path, Value]]:
        """Each image with its value as it comes; of one that was refused, the reason is shown."""
        with closing(answers), self._output.bar(title) as bar:
            for number, (path, answer) in enumerate(zip(self._paths, answers, strict=True), 1):
                if answer.error is not None:
                    self._output.warn(f"{path}: {answer.error.message}")
                    self._output.value({"image": str(path)} | to_plain(answer.error))
                else:
                    self._note(path, answer.value)
                    yield path, answer.value
                bar.show(number, len(self._paths))

    def tell(self) -> None:
        """Shows the table of what was walked through, without empty columns.

        Raises:
            typer.Exit: a service refused some of the images.
        """
        if self._rows:
            columns = [name for name in self._rows[0] if any(row[name] != "" for row in self._rows)]
            self._output.table(columns, ([_cell(row[name]) for name in columns] for row in self._rows))
        if self._answered < len(self._paths):
            raise typer.Exit(ExitCode.REFUSED)

    def _note(self, path: Path, value: Value) -> None:
        self._output.value({"image": str(path)} | to_plain(value))
        self._rows += [{"image": path, **row} for row in self._describe(value)]
        self._answered += 1


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def paint_all(out: Path, heatmaps: Mapping[Path, tuple[Heatmap | None, float]], output: Output) -> None:
    """Writes each image with its heat map over it.

    Args:
        out: folder to write to.
        heatmaps: by image file: the map, and the value that is painted in full red.
        output: for the progress bar.
    """
    places = Places(out, ".png")
    with output.bar(f"painting into {out}") as bar:
        for number, (path, (heatmap, full)) in enumerate(heatmaps.items(), 1):
            if heatmap is not None:
                pixels = read_pixels(path)
                heat = heatmap.resized(pixels.shape[1], pixels.shape[0]) / np.float32(full or 1.0)
                write_pixels(places.place(path.name), paint_heatmap(pixels, heat))
            bar.show(number, len(heatmaps))
    output.say(f"{places.count} images with their heat maps in {out}")
