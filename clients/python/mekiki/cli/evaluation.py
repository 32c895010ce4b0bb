"""How good a detector is: evaluate."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mekiki import Evaluation, LabelEvaluation, PixelEvaluation, Rate, Threshold
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.detectors import DetectorName, say_thresholds, select_items
from mekiki.cli.output import Output
from mekiki.cli.reporting import Report, make_report
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session


def evaluate(  # noqa: PLR0913 -- a command's options
    detector: DetectorName,
    dataset: DatasetName,
    *,
    normal_label: Annotated[
        list[str] | None, typer.Option(help='Items with this first label are normal; may be repeated; default "good".')
    ] = None,
    split: Splits = None,
    label: Labels = None,
    report: Report = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Measure a detector on labelled items: AUROC, and false alarms and misses at its threshold.

    Without --split and --label the items are those of split "test". Where items have masks, pixels are measured, too.
    It warns where good and bad images can be told apart without the part.
    """
    wanted = select_items(dataset, split, label, otherwise="test")
    normal = normal_label or ["good"]
    with session(address, json=json) as (client, output):
        thresholds = client.anomaly.get_detector(detector).thresholds
        operation = client.anomaly.evaluate_detector(detector, wanted, normal_labels=normal)
        evaluation = follow(operation, output, f"evaluating {detector}")
        _say_evaluation(evaluation, thresholds, output)
        rows = (_row(each, is_normal=each.label in normal) for each in evaluation.labels)
        output.table(["label", "items", "auroc", "false alarms", "misses", "pixel auroc", "pro"], rows)
        _warn_of_shortcuts(evaluation, output)
        told = {**vars(evaluation), "thresholds": thresholds}
        output.value(told)

        def write(folder: Path) -> Path:
            from mekiki.report.evaluation import Subject, write_evaluation  # noqa: PLC0415 -- it draws in OpenCV

            version = f"{evaluation.model.name}@{evaluation.model.version}"
            return write_evaluation(client, evaluation, thresholds, Subject(version, dataset, set(normal)), folder)

        make_report(report, output, told, write)


def _say_evaluation(evaluation: Evaluation, thresholds: Mapping[str, Threshold], output: Output) -> None:
    model = evaluation.model
    output.say(
        f"{model.name} version {model.version}, bank version {model.bank_version}: AUROC {evaluation.image_auroc:.4f}, "
        f"average precision {evaluation.average_precision:.4f}"
    )
    if evaluation.pixels is not None:
        auroc, pro = _tell_pixels(evaluation.pixels)
        output.say(f"pixels of {evaluation.pixels.item_count} items: AUROC {auroc}, per-region overlap {pro}")
    if evaluation.false_alarms is None or evaluation.misses is None or evaluation.f1 is None:
        output.say("not calibrated, so there are neither false alarms nor misses")
        return
    say_thresholds(thresholds, output)
    output.say(
        f"false alarms {_tell_rate(evaluation.false_alarms)}, misses {_tell_rate(evaluation.misses)}, "
        f"F1 {evaluation.f1:.4f}"
    )


def _tell_rate(rate: Rate) -> str:
    return f"{rate.count} of {rate.total} ({rate.share:.1%}; 95 % interval {rate.lower:.1%} to {rate.upper:.1%})"


def _warn_of_shortcuts(evaluation: Evaluation, output: Output) -> None:
    for control in evaluation.shortcuts:
        if control.flatters:
            output.warn(
                f"the {control.name} alone tells good from bad, AUROC {control.image_auroc:.2f} (99 % interval "
                f"{control.lower:.2f} to {control.upper:.2f}): this data set flatters any detector"
            )


def _row(told: LabelEvaluation, *, is_normal: bool) -> list[object]:
    auroc = "" if told.image_auroc is None else f"{told.image_auroc:.4f}"
    called = "" if told.anomalous is None else told.anomalous.count
    missed = "" if told.anomalous is None else told.anomalous.total - told.anomalous.count
    counts = [called, ""] if is_normal else ["", missed]
    pixels = ["", ""] if told.pixels is None else _tell_pixels(told.pixels)
    return [told.label, told.item_count, auroc, *counts, *pixels]


def _tell_pixels(pixels: PixelEvaluation) -> list[str]:
    return ["" if value is None else f"{value:.4f}" for value in (pixels.auroc, pixels.pro)]
