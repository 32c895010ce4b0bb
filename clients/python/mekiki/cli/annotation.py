"""Commands about boxes on the items of a data set: annotate, calibrate-boxes."""

from pathlib import Path
from typing import Annotated

import typer

from mekiki import BoxCalibration, ExplainOptions, FitMethod, FitOptions, ForegroundUse, ItemFilter
from mekiki.cli.codes import ExitCode
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.models import ClassifierName, Scales
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session

Method = Annotated[FitMethod, typer.Option(help="How a box is searched.")]
NoFlip = Annotated[bool, typer.Option("--no-flip", help="Do not average over mirror images.")]


def annotate(  # noqa: PLR0913 -- a command's options
    classifier: ClassifierName,
    dataset: DatasetName,
    *,
    segmenter: Annotated[
        bool, typer.Option("--segmenter", help="The name is a segmenter's: boxes of its masks.")
    ] = False,
    use_labels: Annotated[bool, typer.Option("--use-labels", help="Look for each item's own label.")] = False,
    skip: Annotated[list[str] | None, typer.Option(help="Items with this label get no box; may be repeated.")] = None,
    method: Method = FitMethod.EXACT,
    threshold: Annotated[float | None, typer.Option(help="Share of a map's maximum; default 0.3.")] = None,
    foreground: Annotated[
        ForegroundUse | None, typer.Option(help="Boxes end where what stands out does; default plain_ground.")
    ] = None,
    max_objects: Annotated[int | None, typer.Option(help="Most boxes an image, 1 to 100; default 1.")] = None,
    scale: Scales = None,
    no_flip: NoFlip = False,
    calibration: Annotated[
        Path | None, typer.Option(help="What calibrate-boxes wrote; says method, threshold and scales itself.")
    ] = None,
    split: Splits = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Draw boxes on the items of a data set, from labels alone."""
    wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
    options = FitOptions(method=method, threshold=threshold, max_objects=max_objects)
    explain = None if calibration or segmenter else ExplainOptions(scales=tuple(scale or ()), flip=not no_flip)
    with session(address, json=json) as (client, output):
        operation = client.boxfit.annotate_dataset(
            "" if segmenter else classifier,
            wanted,
            segmenter=classifier if segmenter else "",
            use_item_labels=use_labels,
            skip_labels=skip or (),
            options=options,
            explain=explain,
            foreground=foreground,
            calibration=BoxCalibration.load(calibration) if calibration else None,
        )
        done = follow(operation, output, f"annotating {dataset}")
        output.say(
            f"{done.annotated_count} annotated, {done.needs_review_count} of them to be reviewed, "
            f"{done.skipped_count} skipped, {len(done.failures)} failed"
        )
        output.table(["failed", "reason"], done.failures.items())
        output.value(done)
        if done.failures:
            raise typer.Exit(ExitCode.REFUSED)


def calibrate_boxes(  # noqa: PLR0913 -- a command's options
    classifier: ClassifierName,
    dataset: DatasetName,
    *,
    out: Annotated[Path, typer.Option(help="File to write what was learned to, for annotate --calibration.")],
    method: Method = FitMethod.EXACT,
    scale: Scales = None,
    no_flip: NoFlip = False,
    split: Splits = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Learn threshold, growth and confidence of boxes from those that people accepted, five of a label or more."""
    wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
    explain = ExplainOptions(scales=tuple(scale or ()), flip=not no_flip)
    with session(address, json=json) as (client, output):
        operation = client.boxfit.calibrate_boxes(classifier, wanted, method=method, explain=explain)
        taught = follow(operation, output, f"learning from boxes in {dataset}")
        taught.calibration.save(out)
        names = ["label", "boxes", "threshold", "foreground", "grown by", "mean IoU", "before"]
        rows = [
            (
                lesson.label or "(others)",
                lesson.box_count,
                f"{lesson.threshold:.2f}",
                lesson.foreground.replace("_", " "),
                f"{lesson.grow_left + lesson.grow_right:+.0%} x {lesson.grow_top + lesson.grow_bottom:+.0%}",
                f"{lesson.mean_iou:.3f}",
                f"{lesson.default_mean_iou:.3f}",
            )
            for lesson in taught.calibration.labels
        ]
        output.table(names, rows)
        output.table(["failed", "reason"], taught.failures.items())
        output.value(taught)
