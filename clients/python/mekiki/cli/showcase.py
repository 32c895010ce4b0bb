"""Commands that need no data: sample-parts, demo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mekiki.cli.reporting import INSTALL
from mekiki.cli.session import Json, open_client, reporting
from mekiki.errors import Unavailable

EXTRA = f"this command renders and draws: {INSTALL}"


def sample_parts(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.")],
    *,
    count: Annotated[int, typer.Option(help="Pictures per kind of part.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same pixels.")] = 0,
    kind: Annotated[list[str] | None, typer.Option(help="screw, nut or washer; may be repeated.")] = None,
    size: Annotated[int, typer.Option(help="Side of the square pictures, pixels.")] = 512,
    labelled: Annotated[
        bool, typer.Option("--labelled", help="Instead: COUNT single parts and bare tables, one folder a label.")
    ] = False,
    json: Json = False,
) -> None:
    """Render pictures of screws, nuts and washers, good and defective, with true masks and boxes."""
    with reporting(json=json) as output:
        with _needing_extra():
            from mekiki import sample_parts as rendered  # noqa: PLC0415 -- it draws in OpenCV
        kinds = [*rendered.KINDS, rendered.EMPTY] if labelled else kind or ["screw"]
        with output.bar("rendering") as bar:
            if labelled:
                rendered.render_kinds(out, count=count, seed=seed, size=size, on_progress=bar.show)
            else:
                rendered.render_parts(out, count=count, seed=seed, kinds=kinds, size=size, on_progress=bar.show)
        pictures = count if labelled else count * len(kinds)
        output.say(f"{pictures} pictures in {out}")
        output.value({"path": str(out), "pictures": pictures, "kinds": kinds})


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("mekiki-demo"),
    data: Annotated[Path | None, typer.Option(help="train/good, test/good, test/<defect>; else sample parts.")] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Use services that run: MEKIKI_ADDRESS's or the current context's.")
    ] = False,
    address: Annotated[str, typer.Option(help="Use those at host:port, or at codec=host:port,...")] = "",
    count: Annotated[int, typer.Option(help="Sample parts to render.")] = 100,
    json: Json = False,
) -> None:
    """Show the main job from end to end, and write a report. Starts services of its own unless told of some."""
    with reporting(json=json) as output:
        with _needing_extra():
            from mekiki.demo import ServicesFailed, run_demo  # noqa: PLC0415 -- it draws in OpenCV
        # What it tells people goes where it does not mix with JSON.
        console = Console(stderr=True) if json else None
        try:
            client = open_client(address) if running or address else None
            output.value(run_demo(data=data, out=out, running=client, count=count, console=console))
        except ServicesFailed as error:
            raise Unavailable(str(error)) from error


@contextmanager
def _needing_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{EXTRA} ({error})") from error
