"""Between anomaly's messages and its values."""

import re
from datetime import datetime

from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.calibration_messages import write_drift, write_thresholds
from services.anomaly.census import Census
from services.anomaly.entries import About, Entry, Reference
from services.anomaly.frames import Placement
from services.anomaly.model import Verdict
from services.anomaly.plan_messages import check_range, write_options
from services.anomaly.training import read_options
from services.anomaly.watched import Watched
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.images import encode_heatmap

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
NAME_WORDS = "a letter or digit, then up to 62 letters, digits, '-', '_' or '.'"
VERSION = re.compile(r"[1-9][0-9]{0,17}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
ITEM_ID_BYTES = 255
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
MAX_ENROLLED_ITEMS, MAX_FORGOTTEN_ITEMS = 64, 1000
HEATMAP_SIDE, MAX_HEATMAP_SIDE = 256, 4096


def read_name(name: str) -> str:
    """A detector's name. Raises InvalidArgument where it is none."""
    if not NAME.fullmatch(name):
        raise InvalidArgument("detector", f"must be {NAME_WORDS}, is {name!r}")
    return name


def read_category(category: str, field: str) -> str:
    """A category's name, or none. Raises InvalidArgument where it is neither."""
    if category and not NAME.fullmatch(category):
        raise InvalidArgument(field, f"must be empty, or {NAME_WORDS}, is {category[:100]!r}")
    return category


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


def read_enrolled_ids(request: anomaly_pb2.EnrollItemsRequest) -> list[str]:
    """The identifiers to enrol, distinct; their categories are read, too. Raises InvalidArgument."""
    check_range("items", len(request.items), 1, MAX_ENROLLED_ITEMS)
    ids = [read_item_id(item.item_id, f"items[{number}].item_id") for number, item in enumerate(request.items)]
    for number, item in enumerate(request.items):
        read_category(item.category, f"items[{number}].category")
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
        raise FailedPrecondition("BANK_EMPTY", f"{entry.reference} has no normal items yet: enroll some first")


def write_detector(entry: Entry, census: Census, watched: Watched | None = None) -> anomaly_pb2.Detector:
    """Describe a version, and what its images say of its calibration."""
    about = entry.about
    message = anomaly_pb2.Detector(
        name=entry.name,
        version=entry.version,
        weights=write_weights(about),
        dataset=about.dataset,
        encoding_id=about.encoding_id,
        encoding_category=about.encoding_category,
        bank_version=census.version,
        enrolled_count=census.items,
        vector_count=census.vectors,
        bank_index=anomaly_pb2.BANK_INDEX_LISTS if census.recalls else anomaly_pb2.BANK_INDEX_EXACT,
        bank_recall=census.recall,
        thresholds=write_thresholds(entry.calibration),
        serving=entry.serves,
        drift=write_drift(watched),
        categories=[
            anomaly_pb2.DetectorCategory(name=name, enrolled_count=count)
            for name, count in sorted(census.categories.items())
        ],
    )
    write_options(read_options(about.engine, about.options), message)
    message.create_time.FromDatetime(datetime.fromisoformat(about.create_time))
    return message


def write_weights(about: About) -> types_pb2.WeightsOrigin:
    """Say what a detector's training began with."""
    return types_pb2.WeightsOrigin(
        backbone=about.backbone, source=about.weights_source, description=about.weights_description
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
        category=verdict.category,
    )
