"""Commands that train: a detector from normals, a classifier from labels."""

from enum import StrEnum
from typing import Annotated

import typer

from mekiki import Client, Detector, EnrolledItem, ItemFilter, ItemForm, ItemRef, MetricEngine, MetricLoss, PatchEngine
from mekiki.cli.codes import EPILOG
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.output import Output
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session

train = typer.Typer(no_args_is_help=True, help="Train a detector from normals, or a classifier from labels.")

Backbone = Annotated[str, typer.Option(help='A timm backbone, or "small"; default mobilenetv2_100.')]
Epochs = Annotated[int | None, typer.Option(help="Rounds over the items.")]
ENROL_STEP = 16  # items a call: the progress bar moves between calls

Seed = Annotated[int, typer.Option(help="Of everything that is drawn.")]


class Engine(StrEnum):
    """The engines of anomaly."""

    PATCH = "patch"
    METRIC = "metric"


@train.command(epilog=EPILOG)
def detector(  # noqa: PLR0913 -- a command's options
    name: Annotated[str, typer.Argument(metavar="DETECTOR", help="Name of the detector.")],
    dataset: DatasetName,
    *,
    engine: Annotated[Engine, typer.Option(help="How it tells normal from not.")] = Engine.PATCH,
    loss: Annotated[MetricLoss, typer.Option(help="Of the metric engine.")] = MetricLoss.ADACOS,
    epochs: Epochs = None,
    prepared: Annotated[bool, typer.Option("--prepared", help="Train and judge prepared images.")] = False,
    split: Splits = None,
    label: Labels = None,
    backbone: Backbone = "",
    seed: Seed = 0,
    false_alarm_rate: Annotated[float | None, typer.Option(help="At most this share of normals; default 0.01.")] = None,
    calibrate: Annotated[bool, typer.Option(help="Set the threshold from the same normals.")] = True,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Train a detector on normal items, enrol them in its bank, and calibrate its threshold on them.

    Without --split and --label the items are those of split "train"; they must all be normal.
    """
    form = ItemForm.PREPARED if prepared else ItemForm.ORIGINAL
    splits = split or ([] if label else ["train"])
    wanted = ItemFilter(dataset, labels=label or (), splits=splits, form=form)
    how = PatchEngine() if engine is Engine.PATCH else MetricEngine(loss=loss, epochs=epochs)
    with session(address, json=json) as (client, output):
        operation = client.anomaly.train_detector(name, wanted, engine=how, backbone=backbone, seed=seed)
        trained = follow(operation, output, f"training {name}")
        output.say(trained.weights.description)
        _enrol(client, output, wanted, trained)
        if calibrate:
            calibration = client.anomaly.calibrate_detector(name, wanted, false_alarm_rate=false_alarm_rate)
            follow(calibration, output, f"calibrating {name}")
        _describe(client.anomaly.get_detector(name), output)


def _enrol(client: Client, output: Output, wanted: ItemFilter, trained: Detector) -> None:
    """Enrols the items that it was trained on; the anomaly service fetches their pixels itself."""
    ids = [read.item.item_id for read in client.codec.read_items(wanted, metadata_only=True)]
    normals = [EnrolledItem(name, ItemRef(wanted.dataset, name, wanted.form, trained.encoding_id)) for name in ids]
    with output.bar(f"enrolling into {trained.name}") as bar:
        for start in range(0, len(normals), ENROL_STEP):
            client.anomaly.enroll_items(trained.name, normals[start : start + ENROL_STEP])
            bar.show(min(start + ENROL_STEP, len(normals)), len(normals))


def _describe(detector: Detector, output: Output) -> None:
    output.say(f"{detector.name} version {detector.version}: {detector.enrolled_count} normals in its bank")
    if detector.threshold:
        promise = detector.threshold
        output.say(
            f"threshold {promise.value:.4g}: at most {promise.false_alarm_rate:.2%} false alarms, "
            f"with {promise.confidence:.0%} confidence, from {promise.normal_count} normals"
        )
    output.value(detector)


@train.command(epilog=EPILOG)
def classifier(  # noqa: PLR0913 -- a command's options
    name: Annotated[str, typer.Argument(metavar="CLASSIFIER", help="Name of the classifier.")],
    dataset: DatasetName,
    *,
    epochs: Epochs = None,
    split: Splits = None,
    label: Labels = None,
    backbone: Backbone = "",
    seed: Seed = 0,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Train a classifier on the first label of each item."""
    wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
    with session(address, json=json) as (client, output):
        operation = client.saliency.train_classifier(name, wanted, epochs=epochs, backbone=backbone, seed=seed)
        trained = follow(operation, output, f"training {name}")
        output.say(trained.weights.description)
        output.say(
            f"{trained.name} version {trained.version}: {', '.join(trained.labels)}; {trained.validation_accuracy:.1%} "
            f"of {trained.validation_count} validation items right, split by {trained.split_by}"
        )
        output.value(trained)
