"""Commands about what a detector knows, and which version of it serves."""

from collections.abc import Mapping
from typing import Annotated

import typer

from mekiki import (
    Client,
    Detector,
    EnrolledItem,
    Enrolment,
    ItemFilter,
    ItemRef,
    Threshold,
)
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.output import Output
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session

ENROLL_STEP = 16  # items a call: the progress bar moves between calls

DetectorName = Annotated[str, typer.Argument(metavar="DETECTOR", help="Name of the detector, or name@version.")]
Category = Annotated[str, typer.Option(help="Category of the parts, where the detector judges several.")]
CategoryFromLabel = Annotated[
    bool, typer.Option("--category-from-label", help="The category of each item is its first label.")
]
FalseAlarmRate = Annotated[float | None, typer.Option(help="At most this share of normals; default 0.01.")]


def promote(detector: DetectorName, *, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Make a version of a detector, such as screws@7, the one that serves."""
    with session(address, json=json) as (client, output):
        _say_serving(client.anomaly.promote_detector(detector), output)


def rollback(detector: DetectorName, *, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Make the version of a detector serve that served before the one that does."""
    with session(address, json=json) as (client, output):
        _say_serving(client.anomaly.rollback_detector(detector), output)


def _say_serving(serving: Detector, output: Output) -> None:
    output.say(f"{serving.name}: version {serving.version} serves")
    output.value(serving)


def enroll(  # noqa: PLR0913 -- a command's options
    detector: DetectorName,
    dataset: DatasetName,
    *,
    category: Category = "",
    category_from_label: CategoryFromLabel = False,
    split: Splits = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Add normal items to a detector's bank; it takes effect at once. What is there already is left alone.

    Without --split and --label the items are those of split "train"; they must all be normal.
    """
    # Original pixels, prepared by the service where the detector wants that: so what was pushed after the data set was
    # encoded, or lies in another one, can be enrolled too.
    wanted = select_items(dataset, split, label, otherwise="train")
    with session(address, json=json) as (client, output):
        chosen = choose_category(category, from_label=category_from_label)
        enrolled = enroll_all(client, output, detector, wanted, chosen)
        output.say(
            f"{detector}: {enrolled.enrolled_count} enrolled, {enrolled.duplicate_count} had been there; "
            f"bank version {enrolled.bank_version}"
        )
        output.value(enrolled)


def select_items(dataset: str, split: list[str] | None, label: list[str] | None, *, otherwise: str) -> ItemFilter:
    """The items that a command means; those of split `otherwise` where it was given neither splits nor labels."""
    return ItemFilter(dataset, labels=label or (), splits=split or ([] if label else [otherwise]))


def choose_category(category: str, *, from_label: bool) -> str | None:
    """The category that a command means, None for each item's first label. Raises ValueError where it means both."""
    if category and from_label:
        raise ValueError("--category and --category-from-label exclude each other")
    return None if from_label else category


def enroll_all(
    client: Client, output: Output, detector: str, wanted: ItemFilter, category: str | None = ""
) -> Enrolment:
    """Enrols items in a bank; the anomaly service fetches their pixels itself. Without a category that is their label.

    Raises:
        ValueError: there are none.
    """
    found = [read.item for read in client.codec.read_items(wanted, metadata_only=True)]
    if not found:
        raise ValueError(f"no item of {wanted.dataset} is meant: see --split and --label")
    normals = [
        EnrolledItem(
            item.item_id,
            ItemRef(wanted.dataset, item.item_id, wanted.form, wanted.encoding_id),
            item.label if category is None else category,
        )
        for item in found
    ]
    total = Enrolment(0, 0, 0)
    with output.bar(f"enrolling into {detector}") as bar:
        for start in range(0, len(normals), ENROLL_STEP):
            some = client.anomaly.enroll_items(detector, normals[start : start + ENROLL_STEP])
            total = Enrolment(
                some.bank_version,
                total.enrolled_count + some.enrolled_count,
                total.duplicate_count + some.duplicate_count,
            )
            bar.show(min(start + ENROLL_STEP, len(normals)), len(normals))
    return total


def forget(
    detector: DetectorName,
    items: Annotated[list[str], typer.Argument(metavar="ITEM", help="Identifiers of enrolled items.")],
    *,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Take items out of a detector's bank; it takes effect at once. What is not there is left out."""
    with session(address, json=json) as (client, output):
        forgotten = client.anomaly.forget_items(detector, items)
        output.say(
            f"{detector}: {forgotten.forgotten_count} of {len(items)} forgotten; bank version {forgotten.bank_version}"
        )
        output.value(forgotten)


def calibrate(  # noqa: PLR0913 -- a command's options
    detector: DetectorName,
    dataset: DatasetName,
    *,
    false_alarm_rate: FalseAlarmRate = None,
    confidence: Annotated[float | None, typer.Option(help="Probability that this holds; default 0.95.")] = None,
    split: Splits = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Set a detector's thresholds, one for each category, from normal items, enrolled or not.

    Without --split and --label the items are those of split "train"; they must all be normal.
    """
    wanted = select_items(dataset, split, label, otherwise="train")
    with session(address, json=json) as (client, output):
        operation = client.anomaly.calibrate_detector(
            detector, wanted, false_alarm_rate=false_alarm_rate, confidence=confidence
        )
        calibration = follow(operation, output, f"calibrating {detector}")
        say_thresholds(calibration.thresholds, output)
        output.value(calibration)


def say_thresholds(thresholds: Mapping[str, Threshold], output: Output) -> None:
    """Each threshold with its promise."""
    for category, threshold in sorted(thresholds.items()):
        whose = f"{category}: " if category else ""
        output.say(
            f"{whose}threshold {threshold.value:.4g}: at most {threshold.false_alarm_rate:.2%} false alarms, "
            f"with {threshold.confidence:.0%} confidence, from {threshold.normal_count} normals"
        )
