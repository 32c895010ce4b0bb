"""Commands that train: a detector from normals, classifier or segmenter from labels, an object detector from boxes."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mekiki import (
    Classifier,
    ClassifierRecipe,
    Detector,
    Engine,
    ItemFilter,
    ItemForm,
    MetricEngine,
    MetricLoss,
    MetricRecipe,
    ObjectDetector,
    PadimEngine,
    PatchEngine,
    Rate,
    SegmentationEngine,
    Segmenter,
)
from mekiki.cli.codes import EPILOG
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.detection import ObjectDetectorName
from mekiki.cli.detectors import (
    Category,
    CategoryFromLabel,
    DetectorName,
    FalseAlarmRate,
    choose_category,
    enroll_all,
    say_thresholds,
    select_items,
)
from mekiki.cli.output import Output
from mekiki.cli.reporting import Report, make_report
from mekiki.cli.segmentation import SegmenterName
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session

train = typer.Typer(
    no_args_is_help=True,
    help="Train a detector from normals, a classifier or a segmenter from labels, or an object detector from boxes.",
)

Backbone = Annotated[str, typer.Option(help='A timm backbone, or "small"; default mobilenetv2_100.')]
Epochs = Annotated[int | None, typer.Option(help="Rounds over the items.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.")]


class EngineName(StrEnum):
    """The engines of anomaly."""

    PATCH = "patch"
    METRIC = "metric"
    PADIM = "padim"


@train.command(epilog=EPILOG)
def detector(  # noqa: PLR0913 -- a command's options
    name: DetectorName,
    dataset: DatasetName,
    *,
    engine: Annotated[EngineName, typer.Option(help="How it tells normal from not.")] = EngineName.PATCH,
    loss: Annotated[MetricLoss, typer.Option(help="Of the metric engine.")] = MetricLoss.ADACOS,
    recipe: Annotated[MetricRecipe, typer.Option(help="Of the metric engine.")] = MetricRecipe.PATCHES,
    epochs: Epochs = None,
    prepared: Annotated[bool, typer.Option("--prepared", help="Train and judge prepared images.")] = False,
    encoding_category: Annotated[
        str, typer.Option(help="With --prepared: which category, where the encoding has several.")
    ] = "",
    category: Category = "",
    category_from_label: CategoryFromLabel = False,
    split: Splits = None,
    label: Labels = None,
    backbone: Backbone = "",
    seed: Seed = 0,
    false_alarm_rate: FalseAlarmRate = None,
    calibrate: Annotated[bool, typer.Option(help="Set the threshold from the same normals.")] = True,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Train a detector on normal items, enrol them in its bank, and calibrate its threshold on them.

    The first version of a name serves at once; a later one when `mekiki promote` says so.
    Without --split and --label the items are those of split "train"; they must all be normal.
    One detector may judge several categories of parts: each has normals and a threshold of its own.
    """
    form = ItemForm.PREPARED if prepared else ItemForm.ORIGINAL
    selected = select_items(dataset, split, label, otherwise="train")
    wanted = replace(selected, form=form, category=encoding_category)
    engines: dict[EngineName, Engine] = {
        EngineName.PATCH: PatchEngine(),
        EngineName.METRIC: MetricEngine(loss=loss, epochs=epochs, recipe=recipe),
        EngineName.PADIM: PadimEngine(),
    }
    how = engines[engine]
    with session(address, json=json) as (client, output):
        chosen = choose_category(category, from_label=category_from_label)
        operation = client.anomaly.train_detector(name, wanted, engine=how, backbone=backbone, seed=seed)
        trained = follow(operation, output, f"training {name}")
        output.say(trained.weights.description)
        # Its own encoding, so that just the pixels that it was trained on are enrolled.
        made = trained.reference
        enroll_all(client, output, made, replace(wanted, encoding_id=trained.encoding_id), chosen)
        if calibrate:
            calibration = client.anomaly.calibrate_detector(made, wanted, false_alarm_rate=false_alarm_rate)
            follow(calibration, output, f"calibrating {made}")
        _describe(client.anomaly.get_detector(made), output)


def _describe(detector: Detector, output: Output) -> None:
    output.say(f"{detector.name} version {detector.version}: {detector.enrolled_count} normals in its bank")
    say_thresholds(detector.thresholds, output)
    if not detector.serving:
        output.say(f"another version serves; `mekiki promote {detector.reference}` puts this one into its place")
    output.value(detector)


@train.command(epilog=EPILOG)
def classifier(  # noqa: PLR0913 -- a command's options
    name: Annotated[str, typer.Argument(metavar="CLASSIFIER", help="Name of the classifier.")],
    dataset: DatasetName,
    *,
    recipe: Annotated[ClassifierRecipe, typer.Option(help="How it learns.")] = ClassifierRecipe.THAWED,
    epochs: Epochs = None,
    split: Splits = None,
    label: Labels = None,
    backbone: Backbone = "",
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share that is held out to judge, calibrate and filter by; default 0.2.")
    ] = None,
    seed: Seed = 0,
    report: Report = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Train a classifier on the first label of each item, and say how it does on items that were held out.

    Groups of items are held out whole; of items without groups, those that look alike stay on one side.
    """
    wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
    with session(address, json=json) as (client, output):
        operation = client.saliency.train_classifier(
            name,
            wanted,
            recipe=recipe,
            epochs=epochs,
            backbone=backbone,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        trained = follow(operation, output, f"training {name}")
        _describe_classifier(trained, output)

        def write(folder: Path) -> Path:
            from mekiki.report.classifier import write_classifier  # noqa: PLC0415 -- it draws in OpenCV

            return write_classifier(client, trained, dataset, folder)

        if trained.evaluation is not None:
            make_report(report, output, trained, write)


def _describe_classifier(trained: Classifier, output: Output) -> None:
    output.say(trained.weights.description)
    output.say(
        f"{trained.name} version {trained.version}: {', '.join(trained.labels)}; {trained.validation_accuracy:.1%} "
        f"of {trained.validation_count} validation items right, split by {trained.split_by.replace('_', '-')}"
    )
    if trained.split_by == "image":
        output.warn("items have no groups, and look too much alike to be kept apart by looks: this flatters")
    evaluation = trained.evaluation
    if evaluation is not None:
        figures = [(each.label, each.recall, each.precision) for each in evaluation.labels]
        rows = ((label, of.total, *(_tell_rate(rate) for rate in (of, right))) for label, of, right in figures)
        output.table(["label", "held out", "recall", "precision"], rows)
        output.say(
            f"expected calibration error {evaluation.calibration_error:.3f}, "
            f"{evaluation.raw_calibration_error:.3f} before calibration"
        )
    output.value(trained)


def _tell_rate(rate: Rate) -> str:
    return f"{rate.share:.1%} ({rate.lower:.1%} to {rate.upper:.1%})" if rate.total else ""


@train.command("object-detector", epilog=EPILOG)
def object_detector(  # noqa: PLR0913 -- a command's options
    name: ObjectDetectorName,
    dataset: DatasetName,
    *,
    proposed: Annotated[bool, typer.Option("--proposed", help="Train on boxes that nobody has accepted yet too.")] = (
        False
    ),
    epochs: Epochs = None,
    input_size: Annotated[int | None, typer.Option(help="Side of the square an image is fitted into, pixels.")] = None,
    scene_share: Annotated[
        float | None, typer.Option(help="Share of the training pictures composed of several items; default 0.7.")
    ] = None,
    upright: Annotated[bool, typer.Option("--upright", help="Objects are never turned or mirrored.")] = False,
    split: Splits = None,
    label: Labels = None,
    backbone: Backbone = "",
    seed: Seed = 0,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Train an object detector on the boxes of items; it finds many objects in an image.

    Accepted boxes count, or proposed ones too with --proposed; an item without any annotation is one without objects.
    """
    wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
    with session(address, json=json) as (client, output):
        operation = client.saliency.train_object_detector(
            name,
            wanted,
            include_proposed=proposed,
            backbone=backbone,
            epochs=epochs,
            input_size=input_size,
            scene_share=scene_share,
            upright=upright,
            seed=seed,
        )
        _describe_objects(follow(operation, output, f"training {name}"), output)


def _describe_objects(trained: ObjectDetector, output: Output) -> None:
    output.say(trained.weights.description)
    output.say(
        f"{trained.name} version {trained.version}: {', '.join(trained.labels)}; mean average precision "
        f"{trained.mean_average_precision:.2f} ({trained.mean_average_precision_50:.2f} at IoU .5) on "
        f"{trained.validation_count} held-out items, split by {trained.split_by}; {trained.box_count} boxes on "
        f"{trained.train_count} items trained on, {trained.left_out_count} left out"
    )
    output.value(trained)


@train.command(epilog=EPILOG)
def segmenter(  # noqa: PLR0913 -- a command's options
    name: SegmenterName,
    dataset: DatasetName,
    *,
    normal: Annotated[
        list[str] | None, typer.Option(help="Label of items that show nothing of interest; may be repeated.")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Learn from masks and scribbles of items, too.")] = False,
    engine: Annotated[
        SegmentationEngine | None, typer.Option(help="How it learns; default refined, sec is the baseline.")
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--go-on", help="Go on from the newest version; what --masks says overrules it.")
    ] = False,
    epochs: Epochs = None,
    input_size: Annotated[int | None, typer.Option(help="Side of the square an image is resized to, pixels.")] = None,
    split: Splits = None,
    label: Labels = None,
    backbone: Backbone = "",
    seed: Seed = 0,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Train a segmenter on the labels of items; it says which pixels show what, though nobody ever drew an outline.

    Items with a label given by --normal teach what the background looks like.
    """
    wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
    with session(address, json=json) as (client, output):
        operation = client.saliency.train_segmenter(
            name,
            wanted,
            normal_labels=normal or (),
            use_masks=masks,
            engine=engine,
            backbone=backbone,
            epochs=epochs,
            input_size=input_size,
            seed=seed,
            go_on=go_on,
        )
        _describe_segmenter(follow(operation, output, f"training {name}"), output)


def _describe_segmenter(trained: Segmenter, output: Output) -> None:
    output.say(trained.weights.description)
    output.say(
        f"{trained.name} version {trained.version}: {', '.join(trained.labels)}; learnt by {trained.engine} from "
        f"{trained.train_count} items, {trained.masked_count} of them with masks, {trained.left_out_count} left out"
    )
    output.value(trained)
