"""All commands of `mekiki`."""

import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from mekiki.cli.annotation import annotate, calibrate_boxes
from mekiki.cli.augmentation import augment, compose
from mekiki.cli.codes import EPILOG, ExitCode
from mekiki.cli.context import context
from mekiki.cli.datasets import compact, pull, push, verify
from mekiki.cli.deletion import delete
from mekiki.cli.detection import detect
from mekiki.cli.detectors import calibrate, enroll, forget, promote, rollback
from mekiki.cli.encoding import encode
from mekiki.cli.evaluation import evaluate
from mekiki.cli.export import export
from mekiki.cli.models import classify, explain, score
from mekiki.cli.reviewing import review
from mekiki.cli.segmentation import segment
from mekiki.cli.showcase import demo, sample_parts
from mekiki.cli.state import ops, status
from mekiki.cli.training import train
from mekiki.cli.triage import triage
from mekiki.cli.trials import trials

app = typer.Typer(
    name="mekiki",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EPILOG,
)
DATA = (push, pull, encode, compact, verify, export, augment, compose)
MODELS = (enroll, forget, calibrate, promote, rollback, score, evaluate, trials, classify, explain, triage, annotate)
OBJECTS = (detect, segment)
PAGES = (review,)
for command in (*DATA, *MODELS, *OBJECTS, *PAGES, status, demo):
    app.command(epilog=EPILOG)(command)
app.command("calibrate-boxes", epilog=EPILOG)(calibrate_boxes)
app.command("sample-parts", epilog=EPILOG)(sample_parts)
app.add_typer(train, name="train")
app.add_typer(ops, name="ops")
app.add_typer(delete, name="delete")
app.add_typer(context, name="context")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 -- typer passes the option's value
    if not wanted:
        return
    try:
        typer.echo(f"mekiki {version('mekiki')}")
    except PackageNotFoundError:
        typer.echo("mekiki, from a checkout")
    raise typer.Exit


@app.callback()
def _describe(
    *,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Visual inspection as a set of services: data sets kept small, boxes without drawing, a verdict on every part."""
    del version


def run() -> None:
    """Runs the command line. A bug leaves its traceback and a code of its own, never the one for an anomaly."""
    try:
        app()
    except Exception:  # noqa: BLE001 -- the last line before the shell
        traceback.print_exc()
        sys.exit(ExitCode.BUG)
