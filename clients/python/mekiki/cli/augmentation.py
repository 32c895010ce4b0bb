"""Commands that make pictures: augment, compose."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mekiki import Client
from mekiki.cli.codes import ExitCode
from mekiki.cli.datasets import create_dataset
from mekiki.cli.export import Form, Lossless
from mekiki.cli.output import Bar, Output
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, session
from mekiki.cli.sources import Wanted, open_source
from mekiki.formats import DatasetFormat, Picture, to_new_item, write_dataset

Count = Annotated[int, typer.Option("--to", help="Pictures to make, in all.")]
Seed = Annotated[int, typer.Option(help="Same seed, same pictures.")]
Into = Annotated[str, typer.Option("--into", metavar="DATASET", help="Data set to append them to, made if need be.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write them to, instead of --into.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="Only pictures with this label; may be repeated.")]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="Only of this split; default all but test and validation.")
]
Proposed = Annotated[bool, typer.Option("--proposed", help="Also boxes that nobody has decided on.")]
Place = Annotated[str, typer.Argument(metavar="SOURCE", help="A folder as for push, or a data set.")]
Turn = Annotated[
    float, typer.Option(help="Turned by up to so many degrees, either way; 180 for parts that lie anyhow.")
]

NEEDED = 'this command draws in OpenCV: pip install "mekiki[augment]"'


@dataclass(frozen=True)
class _Target:
    """Where pictures go: a data set, or a folder."""

    dataset: str
    folder: Path | None
    form: DatasetFormat
    lossless: bool

    def __post_init__(self) -> None:
        if bool(self.dataset) == (self.folder is not None):
            raise ValueError("say either --into DATASET or --out FOLDER")

    def fill(self, client: Client, output: Output, pictures: Iterable[Picture], total: int) -> None:
        """Takes the pictures as they are made; refused ones are told, and end the command with their exit code."""
        place = self.dataset or str(self.folder)
        with output.bar(f"making pictures for {place}") as bar:
            shown = _show(pictures, bar, total)
            if self.folder is not None:
                count, failed = write_dataset(self.form, self.folder, shown, lossless=self.lossless), 0
            else:
                count, failed = _append(client, output, self.dataset, shown)
        output.say(f"{count} pictures in {place}")
        output.value({"pictures": count, "failed": failed, "place": place})
        if failed:
            raise typer.Exit(ExitCode.REFUSED)


def _show(pictures: Iterable[Picture], bar: Bar, total: int) -> Iterator[Picture]:
    for number, picture in enumerate(pictures):
        bar.show(number, total)
        yield picture


def _append(client: Client, output: Output, dataset: str, pictures: Iterable[Picture]) -> tuple[int, int]:
    """Appends them; returns how many are there, and how many were refused."""
    create_dataset(client, dataset)
    done = failed = 0
    for answer in client.codec.append_items(dataset, map(to_new_item, pictures)):
        if answer.error is None:
            done += 1
        else:
            failed += 1
            output.warn(f"{answer.id}: {answer.error.message}")
    return done, failed


@contextmanager
def _needing_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{NEEDED} ({error})") from error


def augment(  # noqa: PLR0913 -- a command's options
    source: Place,
    *,
    to: Count,
    into: Into = "",
    out: Out = None,
    form: Form = DatasetFormat.VOC,
    lossless: Lossless = False,
    seed: Seed = 0,
    turn: Turn = 15,
    zoom: Annotated[float, typer.Option(help="Larger or smaller by up to this factor.")] = 1.2,
    shift: Annotated[float, typer.Option(help="Moved by up to this share of a side.")] = 0.1,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Mirrored or not.")] = True,
    light: Annotated[float, typer.Option(help="Brightness and contrast by up to this share.")] = 0.2,
    split: Splits = None,
    label: Labels = None,
    proposed: Proposed = False,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Make many pictures of a few: turned, zoomed, moved, mirrored, in another light, their boxes and masks with them.

    The first of each picture is the picture itself. Test and validation pictures are left alone, and all copies of one
    picture share a group, so that no split tears them apart.
    """
    with session(address, json=json) as (client, output), _needing_extra():
        target = _Target(into, out, form, lossless=lossless)
        from mekiki import augment as made  # noqa: PLC0415 -- it draws in OpenCV

        options = made.AugmentOptions(made.Motion(turn, zoom, shift, flip), made.Tone(light=light))
        found = open_source(client, source, Wanted(split or (), label or (), proposed))
        counts = made.share_out(found.names, to, seed)
        pictures = made.augment_pictures(found.read(), counts, options, seed)
        target.fill(client, output, pictures, to)


def compose(  # noqa: PLR0913 -- a command's options
    source: Place,
    *,
    to: Count,
    onto: Annotated[
        str, typer.Option(help="Backgrounds: a folder or a data set; default SOURCE, its parts painted over.")
    ] = "",
    onto_label: Annotated[list[str] | None, typer.Option(help="Only backgrounds with this label, as empty.")] = None,
    into: Into = "",
    out: Out = None,
    form: Form = DatasetFormat.COCO,
    lossless: Lossless = False,
    seed: Seed = 0,
    least_parts: Annotated[int, typer.Option(help="Parts in a scene, at least.")] = 2,
    most_parts: Annotated[int, typer.Option(help="Parts in a scene, at most.")] = 8,
    turn: Turn = 180,
    zoom: Annotated[float, typer.Option(help="Parts larger or smaller by up to this factor.")] = 1.25,
    size: Annotated[float, typer.Option(help="Longer side of the median part, at most, of the scene's shorter.")] = 0.3,
    split: Splits = None,
    label: Labels = None,
    proposed: Proposed = False,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Compose scenes of several parts, cut out by their boxes, on real backgrounds, with their boxes and masks.

    Boxes at a picture's rim or under others are left alone, and so are parts that cannot be told from their background.
    """
    with session(address, json=json) as (client, output), _needing_extra():
        target = _Target(into, out, form, lossless=lossless)
        from mekiki import augment as made  # noqa: PLC0415 -- it draws in OpenCV

        options = made.ComposeOptions(least_parts, most_parts, turn_deg=turn, zoom=zoom, size=size)
        found = open_source(client, source, Wanted(split or (), label or (), proposed))
        with output.bar(f"cutting parts out of {source}"):
            pool, failed = made.collect_parts(found.read(), seed)
        output.say(f"{len(pool)} parts cut out, {failed} boxes left alone")
        is_found = not onto and not onto_label
        ground = found if is_found else open_source(client, onto or source, Wanted(labels=onto_label or ()))
        counts = made.share_out(ground.names, to, seed)
        scenes = made.compose_scenes(pool, ground.read(), counts, options, seed)
        target.fill(client, output, scenes, to)
