"""Between the messages that say how a detector is built and a `Plan`."""

from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.backbones import DEFAULT_BACKBONE, hub_repo
from services.anomaly.engines import losses
from services.anomaly.training import ORIGINAL, PATCHES, MetricOptions, Options, PadimOptions, PatchOptions, Plan
from services.runtime.errors import InvalidArgument

_PREPARED_SIDE, _RAW_SIDE = 640, 384

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
_RECIPES = {
    anomaly_pb2.METRIC_RECIPE_UNSPECIFIED: PATCHES,
    anomaly_pb2.METRIC_RECIPE_PATCHES: PATCHES,
    anomaly_pb2.METRIC_RECIPE_ORIGINAL: ORIGINAL,
}
_EPOCHS = {PATCHES: 5, ORIGINAL: MetricOptions.epochs}  # five: chosen by defects made on held-out training images
_RECIPE_NUMBERS = {PATCHES: anomaly_pb2.METRIC_RECIPE_PATCHES, ORIGINAL: anomaly_pb2.METRIC_RECIPE_ORIGINAL}


def read_plan(request: anomaly_pb2.TrainDetectorRequest, *, aligned: bool) -> Plan:
    """How to build a detector, defaults filled in; `aligned` says whether its images are brought into one pose.

    Raises:
        InvalidArgument: names the field.
    """
    if not request.items.dataset:
        raise InvalidArgument("items.dataset", "must name a data set, is empty")
    backbone = request.backbone or DEFAULT_BACKBONE
    hub_repo(backbone)  # refuses an unknown one
    check_range("seed", request.seed, 0, (1 << 63) - 1)
    options: Options
    match request.WhichOneof("engine"):
        case "metric":
            options = _read_metric(request.metric, aligned)
        case "padim":
            options = _read_padim(request.padim, is_prepared(request))
        case _:
            options = _read_patch(request.patch, is_prepared(request), aligned)
    return Plan(options, backbone, request.seed)


def is_prepared(request: anomaly_pb2.TrainDetectorRequest) -> bool:
    """Whether the detector is to judge prepared images."""
    return request.items.form == types_pb2.ITEM_FORM_PREPARED


def _read_patch(engine: anomaly_pb2.PatchEngine, prepared: bool, aligned: bool) -> PatchOptions:  # noqa: FBT001
    side = _read_side("patch", engine, prepared)
    fraction = engine.coreset_fraction if engine.HasField("coreset_fraction") else PatchOptions.coreset_fraction
    check_range("patch.coreset_fraction", fraction, 0.001, 1)
    return PatchOptions(side, fraction, engine.same_place if engine.HasField("same_place") else aligned)


def _read_padim(engine: anomaly_pb2.PadimEngine, prepared: bool) -> PadimOptions:  # noqa: FBT001 - private
    side = _read_side("padim", engine, prepared)
    dimension = engine.dimension if engine.HasField("dimension") else PadimOptions.dimension
    check_range("padim.dimension", dimension, 1, 600)
    return PadimOptions(side, dimension)


def _read_side(name: str, engine: anomaly_pb2.PatchEngine | anomaly_pb2.PadimEngine, prepared: bool) -> int:  # noqa: FBT001
    side = engine.input_side if engine.HasField("input_side") else _PREPARED_SIDE if prepared else _RAW_SIDE
    check_range(f"{name}.input_side", side, 64, 1024)
    return side


def _read_metric(engine: anomaly_pb2.MetricEngine, aligned: bool) -> MetricOptions:  # noqa: FBT001 - private
    loss, recipe = _LOSSES.get(engine.loss), _RECIPES.get(engine.recipe)
    if loss is None:
        raise InvalidArgument("metric.loss", f"{engine.loss} is no MetricLoss")
    if recipe is None:
        raise InvalidArgument("metric.recipe", f"{engine.recipe} is no MetricRecipe")
    classes = engine.class_count if engine.HasField("class_count") else MetricOptions.class_count
    epochs = engine.epochs if engine.HasField("epochs") else _EPOCHS[recipe]
    size = engine.input_size if engine.HasField("input_size") else MetricOptions.input_side_px
    check_range("metric.class_count", classes, 3 if loss == losses.ADACOS else 2, 3)
    check_range("metric.epochs", epochs, 1, 500)
    check_range("metric.input_size", size, 32, 1024)
    if size % 32:
        raise InvalidArgument("metric.input_size", f"must be a multiple of 32, is {size}")
    return MetricOptions(recipe, loss, classes, epochs, size, same_place=aligned and recipe == PATCHES)


def write_options(options: Options, detector: anomaly_pb2.Detector) -> None:
    """Say how a detector was built."""
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
            detector.metric.recipe = _RECIPE_NUMBERS[options.recipe]


def check_range(field: str, value: float, least: float, most: float) -> float:
    """The value of a field of a request, where it is in its range. Raises InvalidArgument."""
    if not least <= value <= most:
        raise InvalidArgument(field, f"must be {least} to {most}, is {value}")
    return value
