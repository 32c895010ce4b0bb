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
    """Shows one answer an image, and remembers the values."""

    def __init__(self, output: Output, paths: Sequence[Path], row: Callable[[Value], Mapping[str, object]]) -> None:
        self._output = output
        self._paths = paths
        self._row = row
        self.values: dict[Path, Value] = {}

    def frames(self) -> Iterator[Frame[ImageLike]]:
        """The images to send, tagged with their running numbers."""
        return (Frame(path, str(number)) for number, path in enumerate(self._paths))

    def show(self, title: str, answers: Answers[Value]) -> None:
        """Shows all answers: a line of JSON for each as it comes, a table without empty columns for people at the end.

        Raises:
            typer.Exit: a service refused some of the images.
        """
        with closing(answers), self._output.bar(title) as bar:
            for number, (path, answer) in enumerate(zip(self._paths, answers, strict=True), 1):
                self._show_one(path, answer)
                bar.show(number, len(self._paths))
        rows = [{"image": path, **self._row(value)} for path, value in self.values.items()]
        if rows:
            columns = [name for name in rows[0] if any(row[name] != "" for row in rows)]
            self._output.table(columns, ([_cell(row[name]) for name in columns] for row in rows))
        if len(rows) < len(self._paths):
            raise typer.Exit(ExitCode.REFUSED)

    def _show_one(self, path: Path, answer: Answer[Value]) -> None:
        if answer.error is not None:
            self._output.warn(f"{path}: {answer.error.message}")
            self._output.value({"image": str(path)} | to_plain(answer.error))
            return
        self.values[path] = answer.value
        self._output.value({"image": str(path)} | to_plain(answer.value))


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
