"""Where a command puts its report, and how it shows it."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mekiki.cli.output import Output
from mekiki.cli.plain import to_json

Report = Annotated[
    Path | None,
    typer.Option(help="Folder for a report: HTML with pictures, and JSON. A terminal gets one anyway, and opens it."),
]
INSTALL = "pip install 'mekiki[demo]'"
EXTRA = f"a report draws: {INSTALL}"
JSON = "report.json"


def make_report(wanted: Path | None, output: Output, value: object, write: Callable[[Path], Path]) -> None:
    """Writes a report where it is wanted, or into a folder of its own where somebody looks, and opens it there.

    Args:
        wanted: the folder; None: whether there is a report depends on who looks.
        output: says where it is.
        value: what goes into `report.json`.
        write: makes the page in a folder that exists and returns its path.

    Raises:
        ValueError: the report is wanted, and what it is drawn with is not installed.
    """
    watched = sys.stdout.isatty() and not output.json
    if wanted is None and not watched:
        return None
    folder = wanted or Path(tempfile.mkdtemp(prefix="mekiki-"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON).write_text(to_json(value) + "\n", encoding="utf-8")
    try:
        page = write(folder)
    except ImportError as error:
        if wanted is not None:
            raise ValueError(f"{EXTRA} ({error})") from error
        return output.warn(EXTRA)
    output.say(f"report: {page}")
    if watched:
        typer.launch(str(page))
    return None
