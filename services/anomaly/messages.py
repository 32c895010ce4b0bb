"""Between anomaly's messages and its values."""

import dataclasses
import re
from datetime import datetime
from typing import Any

from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.bank import Census
from services.anomaly.drift import ERROR, WINDOW, DriftTest
from services.anomaly.entries import About, Calibration, Entry, Reference
from services.anomaly.frames import Placement
from services.anomaly.model import Verdict
from services.anomaly.plan_messages import check_range, write_options
from services.anomaly.training import read_options
from services.anomaly.watched import Watched
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.images import encode_heatmap

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
ITEM_ID_BYTES = 255
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
MAX_ENROLLED_ITEMS, MAX_FORGOTTEN_ITEMS = 64, 1000
HEATMAP_SIDE, MAX_HEATMAP_SIDE = 256, 4096


def read_name(name: str) -> str:
    """A detector's name. Raises InvalidArgument where it is none."""
    if not NAME.fullmatch(name):
        pattern = "a letter or digit, then up to 62 letters, digits, '-', '_' or '.'"
        raise InvalidArgument("detector", f"must be {pattern}, is {name!r}")
    return name


def read_reference(detector: str) -> Reference:
    """A detector's name, or name@version. Raises InvalidArgument where it is neither."""
    name, at, version = detector.partition("@")
    if at and not VERSION.fullmatch(version):
        raise InvalidArgument("detector", f"must be a name, or name@version such as 'screws@7', is {detector[:100]!r}")
    return Reference(read_name(name), int(version) if at else None)


def read_version(detector: str) -> Reference:
    """Name@version. Raises InvalidArgument where the version is missing."""
    reference = read_reference(detector)
    if reference.version is None:
        raise InvalidArgument("detector", f"must be name@version such as 'screws@7', is {detector!r}")
    return reference


def read_item_id(item_id: str, field: str) -> str:
    """An item's identifier. Raises InvalidArgument where it is none."""
    size = len(item_id.encode())
    if not 1 <= size <= ITEM_ID_BYTES or CONTROL.search(item_id):
        raise InvalidArgument(
            field, f"must be 1 to {ITEM_ID_BYTES} bytes without control characters, is {size}: {item_id[:40]!r}"
        )
    return item_id


def read_heatmap_side(request: anomaly_pb2.ScoreImageRequest) -> int:
    """Cells of the longer side, 0 for none. Raises InvalidArgument."""
    if not request.HasField("heatmap_side"):
        return HEATMAP_SIDE
    return int(check_range("heatmap_side", request.heatmap_side, 0, MAX_HEATMAP_SIDE))


def read_promise(request: anomaly_pb2.CalibrateDetectorRequest) -> tuple[float, float]:
    """False-alarm rate and confidence. Raises InvalidArgument."""
    rate = request.false_alarm_rate if request.HasField("false_alarm_rate") else 0.01
    confidence = request.confidence if request.HasField("confidence") else 0.95
    for field, value in (("false_alarm_rate", rate), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InvalidArgument(field, f"must lie between 0 and 1, is {value:g}")
    return rate, confidence


def read_enrolled_ids(request: anomaly_pb2.EnrollItemsRequest) -> list[str]:
    """The identifiers to enrol, distinct. Raises InvalidArgument."""
    check_range("items", len(request.items), 1, MAX_ENROLLED_ITEMS)
    ids = [read_item_id(item.item_id, f"items[{number}].item_id") for number, item in enumerate(request.items)]
    if len(set(ids)) < len(ids):
        raise InvalidArgument("items", "must have distinct item_ids, one is there twice")
    return ids


def read_forgotten_ids(request: anomaly_pb2.ForgetItemsRequest) -> list[str]:
    """The identifiers to forget. Raises InvalidArgument."""
    check_range("item_ids", len(request.item_ids), 1, MAX_FORGOTTEN_ITEMS)
    return [read_item_id(item_id, f"item_ids[{number}]") for number, item_id in enumerate(request.item_ids)]


def read_page(request: anomaly_pb2.ListDetectorsRequest, entries: list[Entry]) -> tuple[list[Entry], str]:
    """Of entries ordered by name and version the page asked for, and the token of the next page, "" after the last."""
    size = int(check_range("page_size", request.page_size, 0, MAX_PAGE_SIZE)) or PAGE_SIZE
    name, _, version = request.page_token.partition("@")
    if request.page_token and not VERSION.fullmatch(version):
        raise InvalidArgument("page_token", "must be a next_page_token, is another text")
    last = (name, int(version or 0))
    rest = [entry for entry in entries if (request.all_versions or entry.serves) and (entry.name, entry.version) > last]
    page = rest[:size]
    return page, str(page[-1].reference) if len(rest) > size else ""


def check_enrolled(entry: Entry, census: Census) -> None:
    """Refuse work that needs a bank. Raises FailedPrecondition BANK_EMPTY."""
    if census.items == 0:
        raise FailedPrecondition("BANK_EMPTY", f"detector {entry.name!r} has no normal items yet: enroll some first")


def check_promotion(entry: Entry, census: Census, serving: Entry) -> None:
    """Refuse to promote what a line could not go on with. Raises FailedPrecondition."""
    if census.items == 0:
        raise FailedPrecondition("BANK_EMPTY", f"{entry.reference} has no normal items yet: enroll some first")
    if entry.calibration is None and serving.calibration is not None:
        raise FailedPrecondition(
            "DETECTOR_UNCALIBRATED",
            f"{entry.reference} has no threshold, and {serving.reference}, which serves, has one: calibrate it first",
        )


def write_detector(entry: Entry, census: Census, watched: Watched | None = None) -> anomaly_pb2.Detector:
    """Describe a version, and what its images say of its calibration."""
    about = entry.about
    message = anomaly_pb2.Detector(
        name=entry.name,
        version=entry.version,
        weights=write_weights(about),
        dataset=about.dataset,
        encoding_id=about.encoding_id,
        bank_version=census.version,
        enrolled_count=census.items,
        vector_count=census.vectors,
        bank_index=anomaly_pb2.BANK_INDEX_LISTS if census.recalls else anomaly_pb2.BANK_INDEX_EXACT,
        bank_recall=census.recall,
        threshold=None if entry.calibration is None else write_threshold(entry.calibration),
        serving=entry.serves,
        drift=None if watched is None or watched.drift is None else _write_drift(watched.drift),
    )
    write_options(read_options(about.engine, about.options), message)
    message.create_time.FromDatetime(datetime.fromisoformat(about.create_time))
    return message


def write_weights(about: About) -> types_pb2.WeightsOrigin:
    """Say what a detector's training began with."""
    return types_pb2.WeightsOrigin(
        backbone=about.backbone, source=about.weights_source, description=about.weights_description
    )


def write_threshold(calibration: Calibration) -> anomaly_pb2.Threshold:
    """A threshold with its promise."""
    values: dict[str, Any] = dataclasses.asdict(calibration)
    created = datetime.fromisoformat(values.pop("create_time"))
    del values["scores_key"]
    message = anomaly_pb2.Threshold(**values)
    message.create_time.FromDatetime(created)
    return message


def _write_drift(drift: DriftTest) -> anomaly_pb2.Drift:
    return anomaly_pb2.Drift(
        image_count=drift.seen, evidence=drift.evidence, error=ERROR, window=WINDOW, drifted=drift.drifted
    )


def write_model(entry: Entry, bank_version: int) -> types_pb2.ModelRef:
    """Name the version and the bank that answered."""
    return types_pb2.ModelRef(name=entry.name, version=entry.version, bank_version=bank_version)


def write_verdict(
    verdict: Verdict, placement: Placement, entry: Entry, *, aligned: bool
) -> anomaly_pb2.ScoreImageResponse:
    """Answer ScoreImage."""
    words = {
        None: anomaly_pb2.VERDICT_UNSPECIFIED,
        False: anomaly_pb2.VERDICT_NORMAL,
        True: anomaly_pb2.VERDICT_ANOMALOUS,
    }
    region = None
    if verdict.region is not None:
        box = verdict.region
        region = types_pb2.Box(x_min=box.x0, y_min=box.y0, x_max=box.x1, y_max=box.y1)
    return anomaly_pb2.ScoreImageResponse(
        score=verdict.score,
        verdict=words[verdict.is_anomalous],
        threshold=verdict.threshold,
        p_value=verdict.p_value,
        heatmap=None if verdict.heatmap is None else encode_heatmap(verdict.heatmap),
        region=region,
        nearest_item_id=verdict.nearest_item,
        model=write_model(entry, verdict.bank_version),
        aligned=aligned,
        image_width=placement.shape[1],
        image_height=placement.shape[0],
    )
