"""Between anomaly's messages about thresholds and their values."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mekiki.anomaly.v1 import anomaly_pb2
from services.anomaly.census import Census
from services.anomaly.drift import ERROR, WINDOW
from services.anomaly.entries import Calibration, Entry
from services.anomaly.watched import Watched
from services.runtime.errors import FailedPrecondition, InvalidArgument


def read_promise(request: anomaly_pb2.CalibrateDetectorRequest) -> tuple[float, float]:
    """False-alarm rate and confidence. Raises InvalidArgument."""
    rate = request.false_alarm_rate if request.HasField("false_alarm_rate") else 0.01
    confidence = request.confidence if request.HasField("confidence") else 0.95
    for field, value in (("false_alarm_rate", rate), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InvalidArgument(field, f"must lie between 0 and 1, is {value:g}")
    return rate, confidence


def check_calibrated(entry: Entry, serving: Entry, serving_census: Census) -> None:
    """Refuse a version in whose place another one gives verdicts that it cannot give.

    Raises:
        FailedPrecondition: DETECTOR_UNCALIBRATED.
    """
    judged = _list_limits(serving) & serving_census.categories.keys()
    missing = sorted(judged - _list_limits(entry))
    if missing:
        named = ", ".join(repr(category) for category in missing if category)
        which = f" for {named}" if named else ""
        raise FailedPrecondition(
            "DETECTOR_UNCALIBRATED",
            f"{entry.reference} has no threshold{which}, and {serving.reference}, which serves, has one: "
            "calibrate it first",
        )


def _list_limits(entry: Entry) -> set[str]:
    return set() if entry.calibration is None else set(entry.calibration.limits)


def write_thresholds(calibration: Calibration | None) -> list[anomaly_pb2.Threshold]:
    """The thresholds of a version with their promise, by category; none before it is calibrated."""
    if calibration is None:
        return []
    messages = [
        anomaly_pb2.Threshold(
            value=limit.value,
            false_alarm_rate=calibration.false_alarm_rate,
            confidence=calibration.confidence,
            normal_count=limit.normal_count,
            bank_version=calibration.bank_version,
            category=category,
        )
        for category, limit in sorted(calibration.limits.items())
    ]
    for message in messages:
        message.create_time.FromDatetime(datetime.fromisoformat(calibration.create_time))
    return messages


def write_calibration(
    calibration: Calibration, scores: Mapping[str, NDArray[np.float64]]
) -> anomaly_pb2.CalibrateDetectorResponse:
    """Answer CalibrateDetector."""
    thresholds = write_thresholds(calibration)
    return anomaly_pb2.CalibrateDetectorResponse(
        categories=[
            anomaly_pb2.CategoryCalibration(threshold=each, scores=np.sort(scores[each.category]).tolist())
            for each in thresholds
        ]
    )


def write_drift(watched: Watched | None) -> anomaly_pb2.Drift | None:
    """What the images of the category say that has drifted the most; None where there were none."""
    worst = None if watched is None else watched.find_worst()
    if worst is None:
        return None
    category, drift = worst
    return anomaly_pb2.Drift(
        image_count=drift.seen,
        evidence=drift.evidence,
        error=ERROR,
        window=WINDOW,
        drifted=drift.drifted,
        category=category,
    )
