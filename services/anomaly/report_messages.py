"""From what was measured to anomaly's messages."""

import dataclasses

from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.curves import LabelFigures, Rate
from services.anomaly.examine import Examination, PixelFigures
from services.anomaly.shortcuts import Shortcut


def write_examination(examination: Examination, model: types_pb2.ModelRef) -> anomaly_pb2.EvaluateDetectorResponse:
    """The figures of EvaluateDetector."""
    evaluation, pixels = examination.evaluation, examination.pixels
    return anomaly_pb2.EvaluateDetectorResponse(
        image_auroc=evaluation.auroc,
        average_precision=evaluation.average_precision,
        false_alarms=_write_rate(evaluation.false_alarms),
        misses=_write_rate(evaluation.misses),
        f1=evaluation.f1,
        labels=[_write_label(label, examination.label_pixels.get(label.label)) for label in evaluation.labels],
        roc=[
            anomaly_pb2.RocPoint(false_alarm_rate=point.false_alarm_rate, detection_rate=point.detection_rate)
            for point in evaluation.roc
        ],
        scores=[anomaly_pb2.ItemScore(**dataclasses.asdict(item)) for item in examination.scores],
        model=model,
        pixels=None if pixels is None else _write_pixels(pixels),
        shortcuts=[_write_shortcut(shortcut) for shortcut in examination.shortcuts],
    )


def _write_label(label: LabelFigures, pixels: PixelFigures | None) -> anomaly_pb2.LabelEvaluation:
    return anomaly_pb2.LabelEvaluation(
        label=label.label,
        item_count=label.count,
        image_auroc=label.auroc,
        anomalous=_write_rate(label.anomalous),
        pixels=None if pixels is None else _write_pixels(pixels),
    )


def _write_pixels(pixels: PixelFigures) -> anomaly_pb2.PixelEvaluation:
    return anomaly_pb2.PixelEvaluation(auroc=pixels.auroc, pro=pixels.pro, item_count=pixels.items)


def _write_rate(rate: Rate | None) -> anomaly_pb2.Rate | None:
    """A share with its interval."""
    if rate is None:
        return None
    return anomaly_pb2.Rate(count=rate.count, total=rate.total, lower=rate.low, upper=rate.high)


def _write_shortcut(shortcut: Shortcut) -> anomaly_pb2.Shortcut:
    return anomaly_pb2.Shortcut(
        name=shortcut.name,
        image_auroc=shortcut.auroc,
        lower=shortcut.low,
        upper=shortcut.high,
        flatters=shortcut.flatters,
    )
