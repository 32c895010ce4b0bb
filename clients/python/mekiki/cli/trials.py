"""Configurations side by side: trials."""

import json as json_words
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format

from mekiki import Configuration, Engine, ItemFilter, ItemForm, TrialSeries
from mekiki._values.engine import read_engine
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.detectors import select_items
from mekiki.cli.output import Output
from mekiki.cli.reporting import Report, make_report
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session

ENGINES = [field.name for field in anomaly_pb2.TrainDetectorRequest.DESCRIPTOR.oneofs_by_name["engine"].fields]


def trials(  # noqa: PLR0913 -- a command's options
    dataset: DatasetName,
    *,
    configuration: Annotated[
        list[str],
        typer.Option(
            "--configuration",
            "-c",
            help="ENGINE[,OPTION=VALUE...], such as metric,loss=arcface; also prepared, backbone=, name=. "
            "Once for each configuration.",
        ),
    ],
    count: Annotated[int, typer.Option(help="Trials of each, with seeds from --seed on.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the first trials.")] = 0,
    normal_label: Annotated[
        list[str] | None, typer.Option(help='Items with this first label are normal; may be repeated; default "good".')
    ] = None,
    split: Splits = None,
    label: Labels = None,
    train_split: Annotated[list[str] | None, typer.Option(help="Of the normals to train on; default train.")] = None,
    report: Report = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Train and measure detectors with several seeds each, side by side; none of them is kept.

    Without --split and --label what is measured on are the items of split "test".
    """
    normals = ItemFilter(dataset, splits=train_split or ("train",))
    normal = normal_label or ["good"]
    with session(address, json=json) as (client, output):
        wanted = [replace(read_configuration(each, normals), seed=seed) for each in configuration]
        tests = select_items(dataset, split, label, otherwise="test")
        operation = client.anomaly.run_trials(wanted, tests, trial_count=count, normal_labels=normal)
        series = follow(operation, output, f"trials on {dataset}")
        output.table(
            ["configuration", "trials", "median auroc", "least", "most", "training, s"], (_row(one) for one in series)
        )
        _say_weights(series, output)
        output.value(series)

        def write(folder: Path) -> Path:
            from mekiki.report.trials import write_trials  # noqa: PLC0415 -- it draws in OpenCV

            return write_trials(client, series, dataset, set(normal), folder)

        make_report(report, output, series, write)


def read_configuration(text: str, normals: ItemFilter) -> Configuration:
    """A configuration from words such as "metric,loss=arcface,prepared".

    Raises:
        ValueError: says which word is none.
    """
    first, *words = text.split(",")
    if first not in ENGINES:
        raise ValueError(f"configuration {text!r}: must begin with {', '.join(ENGINES)}, begins with {first!r}")
    options = dict(word.partition("=")[::2] for word in words)
    prepared = options.pop("prepared", None) is not None
    backbone = options.pop("backbone", "")
    name = options.pop("name", "-".join([first, *(word.replace("=", ".") for word in words)]))
    engine = _read_engine(first, options)
    form = ItemForm.PREPARED if prepared else ItemForm.ORIGINAL
    return Configuration(name, replace(normals, form=form), engine, backbone)


def _read_engine(kind: str, options: Mapping[str, str]) -> Engine:
    """By the contract, which knows every option and its type."""
    try:
        request = json_format.ParseDict(
            {kind: {key: _read_value(key, value) for key, value in options.items()}}, anomaly_pb2.TrainDetectorRequest()
        )
    except json_format.ParseError as error:
        raise ValueError(f"configuration {kind}: {error}") from None
    return read_engine(request)


def _read_value(key: str, value: str) -> object:
    if key in {"loss", "recipe"}:
        return f"METRIC_{key.upper()}_{value.upper()}"
    try:
        read: object = json_words.loads(value)
    except ValueError:
        return value
    return read


def _row(series: TrialSeries) -> list[object]:
    aurocs = [trial.evaluation.image_auroc for trial in series.trials]
    took_s = sum(trial.train_s for trial in series.trials) / len(series.trials)
    return [
        series.name,
        len(series.trials),
        f"{series.median_auroc:.4f}",
        f"{min(aurocs):.4f}",
        f"{max(aurocs):.4f}",
        f"{took_s:.1f}",
    ]


def _say_weights(series: tuple[TrialSeries, ...], output: Output) -> None:
    for description in sorted({one.weights.description for one in series}):
        output.say(description)
