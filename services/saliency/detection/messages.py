"""Between the messages about object detectors and their values."""

from datetime import datetime

from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.saliency.backbones import DEFAULT_BACKBONE, hub_repo
from services.saliency.detection.catalogue import Entry
from services.saliency.detection.objects import DetectedObject, Wanted
from services.saliency.detection.recipe import (
    MIN_INPUT_SIZE,
    Recipe,
    find_default_size,
)
from services.saliency.messages import check_seed, check_side
from services.saliency.messages import read_name as read_any_name


def read_name(name: str) -> str:
    """Give an object detector's name. Raises InvalidArgument where it is none."""
    return read_any_name(name, "object_detector")


def read_recipe(request: saliency_pb2.TrainObjectDetectorRequest) -> Recipe:
    """Give the recipe asked for, defaults filled in. Raises InvalidArgument naming the field."""
    usual, has = Recipe(), request.HasField
    hub_repo(request.backbone or DEFAULT_BACKBONE)  # refuses an unknown one
    return Recipe(
        backbone=request.backbone or DEFAULT_BACKBONE,
        epochs=_read_epochs(request),
        learning_rate=request.learning_rate if has("learning_rate") else usual.learning_rate,
        batch_size=request.batch_size if has("batch_size") else usual.batch_size,
        validation_fraction=request.validation_fraction if has("validation_fraction") else usual.validation_fraction,
        scene_share=request.scene_share if has("scene_share") else usual.scene_share,
        upright=request.upright,
        seed=check_seed(request.seed),
    )


def _read_epochs(request: saliency_pb2.TrainObjectDetectorRequest) -> int | None:
    if not request.HasField("epochs"):
        return None
    if not 1 <= request.epochs <= 500:
        raise InvalidArgument("epochs", f"must be 1 to 500, is {request.epochs}")
    return request.epochs


def read_input_size(request: saliency_pb2.TrainObjectDetectorRequest) -> int:
    """Give the side of the network's square, pixels. Raises InvalidArgument outside its limits or off its step."""
    if not request.HasField("input_size"):
        return find_default_size(request.backbone or DEFAULT_BACKBONE)
    return check_side(request.input_size, MIN_INPUT_SIZE)


def read_wanted(request: saliency_pb2.DetectObjectsRequest) -> Wanted:
    """Give what is to be told of the objects found. Raises InvalidArgument naming the field."""
    usual = Wanted()
    return Wanted(
        min_score=request.min_score if request.HasField("min_score") else usual.min_score,
        max_objects=request.max_objects if request.HasField("max_objects") else usual.max_objects,
    )


def write_detector(entry: Entry) -> saliency_pb2.ObjectDetector:
    """Describe a version."""
    about = entry.about
    message = saliency_pb2.ObjectDetector(
        name=entry.name,
        version=entry.version,
        labels=about.labels,
        weights=types_pb2.WeightsOrigin(
            backbone=about.backbone, source=about.weights_source, description=about.weights_description
        ),
        input_size=about.input_size,
        mean_average_precision=about.mean_average_precision,
        mean_average_precision_50=about.mean_average_precision_50,
        split_by=about.split_by,
        train_count=about.train_count,
        validation_count=about.validation_count,
        box_count=about.box_count,
        left_out_count=about.left_out_count,
        best_epoch=about.best_epoch,
    )
    message.create_time.FromDatetime(datetime.fromisoformat(about.create_time))
    return message


def write_objects(
    found: list[DetectedObject], shape: tuple[int, ...], entry: Entry
) -> saliency_pb2.DetectObjectsResponse:
    """Answer DetectObjects for an image of `shape` (h, w, ...)."""
    return saliency_pb2.DetectObjectsResponse(
        objects=[_write_object(one) for one in found],
        model=types_pb2.ModelRef(name=entry.name, version=entry.version),
        image_width=shape[1],
        image_height=shape[0],
    )


def _write_object(found: DetectedObject) -> saliency_pb2.DetectedObject:
    left, top, right, bottom = found.box
    box = types_pb2.Box(x_min=left, y_min=top, x_max=right, y_max=bottom)
    return saliency_pb2.DetectedObject(box=box, label=found.label, score=found.score)
