"""Between anomaly's messages and its values."""

import re
from datetime import datetime

from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.backbones import DEFAULT_BACKBONE, hub_repo
from services.anomaly.calibration_messages import write_drift, write_thresholds
from services.anomaly.census import Census
from services.anomaly.engines import losses
from services.anomaly.entries import About, Entry, Reference
from services.anomaly.frames import Placement
from services.anomaly.model import Verdict
from services.anomaly.training import MetricOptions, Options, PadimOptions, PatchOptions, Plan, read_options
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
PREPARED_SIDE, RAW_SIDE = 640, 384

_LOSSES = {
    anomaly_pb2.METRIC_LOSS_UNSPECIFIED: losses.ADACOS,
    anomaly_pb2.METRIC_LOSS_L2_SOFTMAX: losses.L2_SOFTMAX,
    anomaly_pb2.METRIC_LOSS_ARCFACE: losses.ARCFACE,
    anomaly_pb2.METRIC_LOSS_ADACOS: losses.ADACOS,
}
_LOSS_NUMBERS = {
    losses.L2_SOFTMAX: anomaly_pb2.METRIC_LOSS_L2_SOFTMAX,
    losses.ARCFACE: anomaly_pb2.METRIC_LOSS_ARCFACE,
    losses.ADACOS: anomaly_pb2.METRIC_LOSS_ADACOS,
}


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


def read_plan(request: anomaly_pb2.TrainDetectorRequest, *, aligned: bool) -> Plan:
    """How to build a detector, defaults filled in; `aligned` says whether its images are brought into one pose.

    Raises:
        InvalidArgument: names the field.
    """
    if not request.items.dataset:
        raise InvalidArgument("items.dataset", "must name a data set, is empty")
    backbone = request.backbone or DEFAULT_BACKBONE
    hub_repo(backbone)  # refuses an unknown one
    _check_range("seed", request.seed, 0, (1 << 63) - 1)
    options: Options
    match request.WhichOneof("engine"):
        case "metric":
            options = _read_metric(request.metric)
        case "padim":
            options = _read_padim(request.padim, is_prepared(request))
        case _:
            options = _read_patch(request.patch, is_prepared(request), aligned)
    return Plan(options, backbone, request.seed)


def is_prepared(request: anomaly_pb2.TrainDetectorRequest) -> bool:
    """Whether the detector is to judge prepared images."""
    return request.items.form == types_pb2.ITEM_FORM_PREPARED


def read_heatmap_side(request: anomaly_pb2.ScoreImageRequest) -> int:
    """Cells of the longer side, 0 for none. Raises InvalidArgument."""
    if not request.HasField("heatmap_side"):
        return HEATMAP_SIDE
    return int(_check_range("heatmap_side", request.heatmap_side, 0, MAX_HEATMAP_SIDE))


def read_enrolled_ids(request: anomaly_pb2.EnrollItemsRequest) -> list[str]:
    """The identifiers to enrol, distinct; their categories are read, too. Raises InvalidArgument."""
    _check_range("items", len(request.items), 1, MAX_ENROLLED_ITEMS)
    ids = [read_item_id(item.item_id, f"items[{number}].item_id") for number, item in enumerate(request.items)]
    for number, item in enumerate(request.items):
        read_category(item.category, f"items[{number}].category")
    if len(set(ids)) < len(ids):
        raise InvalidArgument("items", "must have distinct item_ids, one is there twice")
    return ids


def read_forgotten_ids(request: anomaly_pb2.ForgetItemsRequest) -> list[str]:
    """The identifiers to forget. Raises InvalidArgument."""
    _check_range("item_ids", len(request.item_ids), 1, MAX_FORGOTTEN_ITEMS)
    return [read_item_id(item_id, f"item_ids[{number}]") for number, item_id in enumerate(request.item_ids)]


def read_page(request: anomaly_pb2.ListDetectorsRequest, entries: list[Entry]) -> tuple[list[Entry], str]:
    """Of entries ordered by name and version the page asked for, and the token of the next page, "" after the last."""
    size = int(_check_range("page_size", request.page_size, 0, MAX_PAGE_SIZE)) or PAGE_SIZE
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
    _write_engine(read_options(about.engine, about.options), message)
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


def _read_patch(engine: anomaly_pb2.PatchEngine, prepared: bool, aligned: bool) -> PatchOptions:  # noqa: FBT001
    side = engine.input_side if engine.HasField("input_side") else PREPARED_SIDE if prepared else RAW_SIDE
    fraction = engine.coreset_fraction if engine.HasField("coreset_fraction") else 0.1
    _check_range("patch.input_side", side, 64, 1024)
    _check_range("patch.coreset_fraction", fraction, 0.001, 1)
    return PatchOptions(side, fraction, engine.same_place if engine.HasField("same_place") else aligned)


def _read_padim(engine: anomaly_pb2.PadimEngine, prepared: bool) -> PadimOptions:  # noqa: FBT001 - private
    side = engine.input_side if engine.HasField("input_side") else PREPARED_SIDE if prepared else RAW_SIDE
    dimension = engine.dimension if engine.HasField("dimension") else 100
    _check_range("padim.input_side", side, 64, 1024)
    _check_range("padim.dimension", dimension, 1, 600)
    return PadimOptions(side, dimension)


def _read_metric(engine: anomaly_pb2.MetricEngine) -> MetricOptions:
    defaults = MetricOptions()
    loss = _LOSSES.get(engine.loss)
    if loss is None:
        raise InvalidArgument("metric.loss", f"{engine.loss} is no MetricLoss")
    classes = engine.class_count if engine.HasField("class_count") else defaults.class_count
    epochs = engine.epochs if engine.HasField("epochs") else defaults.epochs
    size = engine.input_size if engine.HasField("input_size") else defaults.input_side_px
    _check_range("metric.class_count", classes, 3 if loss == losses.ADACOS else 2, 3)
    _check_range("metric.epochs", epochs, 1, 500)
    _check_range("metric.input_size", size, 32, 1024)
    if size % 32:
        raise InvalidArgument("metric.input_size", f"must be a multiple of 32, is {size}")
    return MetricOptions(loss, classes, epochs, size)


def _write_engine(options: Options, detector: anomaly_pb2.Detector) -> None:
    match options:
        case PatchOptions():
            detector.patch.input_side = options.input_side_px
            detector.patch.coreset_fraction = options.coreset_fraction
            detector.patch.same_place = options.same_place
        case PadimOptions():
            detector.padim.input_side = options.input_side_px
            detector.padim.dimension = options.dimension
        case MetricOptions():
            detector.metric.loss = _LOSS_NUMBERS[options.loss]
            detector.metric.class_count = options.class_count
            detector.metric.epochs = options.epochs
            detector.metric.input_size = options.input_side_px


def _check_range(field: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise InvalidArgument(field, f"must be {least} to {most}, is {value}")
    return value
