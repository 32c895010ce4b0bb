"""How a detector learns from items of codec: what TrainDetector and every trial do alike."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.backbones import SMALL_BACKBONE, hub_repo
from services.anomaly.config import AnomalySettings
from services.anomaly.engines.training import Journal, Progress
from services.anomaly.entries import About
from services.anomaly.frames import Framing
from services.anomaly.model import choose_device
from services.anomaly.plan_messages import is_prepared, read_plan
from services.anomaly.training import Model, Plan, train_model
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.weights import Weights, find_weights
from services.runtime.worker import Job

READING = "reading images"


@dataclass(frozen=True)
class Learned:
    """A detector without bank and threshold, and how it came about."""

    model: Model
    about: About


def learn(request: anomaly_pb2.TrainDetectorRequest, codec: mekiki.Client, job: Job) -> Learned:
    """Train the embedder of a detector on normal items; what of the request was left open is filled in.

    Raises:
        FailedPrecondition: WEIGHTS_MISSING, or DATASET_NOT_ENCODED.
        InvalidArgument: no items.
    """
    settings: AnomalySettings = job.settings
    weights = _find_weights(read_plan(request, aligned=False).backbone, settings)
    encoding = find_encoding(codec, request.items) if is_prepared(request) else None
    kind = None if encoding is None else find_category(encoding, request.items.category)
    plan = read_plan(request, aligned=encoding is not None and is_aligned(encoding))
    model = train_model(
        plan,
        _read_normals(codec, request.items, _count_normals(codec, request.items), job),
        frame_category(kind),
        weights.path if weights else None,
        choose_device(settings.device),
        Journal(lambda progress: _report(progress, job), job.save_checkpoint, job.load_checkpoint()),
    )
    items = request.items if encoding else types_pb2.ItemFilter(dataset=request.items.dataset)
    return Learned(model, _describe(plan, items, weights))


def open_model(plan: Plan, images: Iterable[NDArray[np.generic]], framing: Framing, job: Job) -> Model:
    """An embedder that goes into no catalogue; raises as `learn`, and keeps no checkpoint."""
    weights = _find_weights(plan.backbone, job.settings)
    journal = Journal(lambda progress: _report(progress, job), lambda _: None)
    path = weights.path if weights else None
    return train_model(plan, images, framing, path, choose_device(job.settings.device), journal)


def _find_weights(backbone: str, settings: AnomalySettings) -> Weights | None:
    repo = hub_repo(backbone)
    if backbone == SMALL_BACKBONE or repo is None:
        return None
    return find_weights(backbone, repo, settings.weights_dir, allow_hub=settings.weights_hub)


def find_encoding(codec: mekiki.Client, items: types_pb2.ItemFilter) -> mekiki.Encoding:
    """The encoding that is asked for, or the newest; the detector stays with it."""
    encodings = codec.codec.get_dataset(items.dataset).encodings
    wanted = [encoding for encoding in encodings if items.encoding_id in ("", encoding.encoding_id)]
    if not wanted:
        which = f"encoding {items.encoding_id!r}" if items.encoding_id else "any encoding"
        raise FailedPrecondition("DATASET_NOT_ENCODED", f"data set {items.dataset!r} has not {which}: encode it first")
    items.encoding_id = wanted[-1].encoding_id
    return wanted[-1]


def find_category(encoding: mekiki.Encoding, name: str) -> mekiki.EncodedCategory:
    """The category that is asked for, or the only one: images of several have frames of several sizes."""
    if not name and len(encoding.categories) == 1:
        return encoding.categories[0]
    known = [kind.category for kind in encoding.categories if kind.category]
    for kind in encoding.categories:
        if name and kind.category == name:
            return kind
    raise InvalidArgument("items.category", f"must be one of encoding {encoding.encoding_id!r}: {known}, is {name!r}")


def is_aligned(encoding: mekiki.Encoding) -> bool:
    """Whether its frames show parts in one pose."""
    return encoding.options.alignment is not mekiki.AlignmentMethod.NONE


def frame_category(kind: mekiki.EncodedCategory | None) -> Framing:
    """What of a category's frames counts; without one everything."""
    if kind is None:
        return Framing()
    return Framing(np.ones((kind.height, kind.width), dtype=np.bool_) if kind.mask is None else kind.mask)


def _count_normals(codec: mekiki.Client, items: types_pb2.ItemFilter) -> int:
    total = sum(1 for _ in codec.codec.read_items(items, metadata_only=True))
    if total == 0:
        raise InvalidArgument("items", f"must select at least 1 normal item of {items.dataset!r}, selects 0")
    return total


def _read_normals(
    codec: mekiki.Client, items: types_pb2.ItemFilter, total: int, job: Job
) -> Iterator[NDArray[np.generic]]:
    for number, read in enumerate(codec.codec.read_items(items)):
        job.report(READING, number, total)
        yield read.pixels
    job.report(READING, total, total)


def _report(progress: Progress, job: Job) -> None:
    job.report("training", progress.epoch, progress.epochs, loss=progress.loss, accuracy=progress.accuracy)


def _describe(plan: Plan, items: types_pb2.ItemFilter, weights: Weights | None) -> About:
    return About(
        engine=plan.engine,
        options=dataclasses.asdict(plan.options),
        backbone=plan.backbone,
        weights_source=weights.source if weights else "none",
        weights_description=_tell_origin(plan, weights),
        dataset=items.dataset,
        encoding_id=items.encoding_id,
        encoding_category=items.category,
        create_time=now(),
    )


def _tell_origin(plan: Plan, weights: Weights | None) -> str:
    if weights is None:
        what = "fixed filters, scaled to" if plan.engine != "metric" else "a small network trained on"
        return (
            f"{what} the given images alone; a pretrained network is more accurate: "
            'put mobilenetv2_100.safetensors into the folder of MEKIKI_WEIGHTS_DIR and train with "mobilenetv2_100"'
        )
    places = {"directory": "the folder of MEKIKI_WEIGHTS_DIR", "cache": "the hub's cache", "hub": "the hub"}
    return f"{plan.backbone}, pretrained: {weights.path.name} from {places[weights.source]}"


def now() -> str:
    """The time, as entries have it."""
    return datetime.now(UTC).isoformat()
