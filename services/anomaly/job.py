"""The worker of anomaly's operations: `python -m services.anomaly.job anomaly/operations/<id>`."""

import dataclasses
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly import messages
from services.anomaly.backbones import SMALL_BACKBONE, hub_repo
from services.anomaly.catalogue import Catalogue
from services.anomaly.config import AnomalySettings
from services.anomaly.engines.training import Journal, Progress
from services.anomaly.entries import About, Calibration, Entry
from services.anomaly.examine import SCORING, Examiner
from services.anomaly.frames import Framing
from services.anomaly.intake import take_items
from services.anomaly.model import Detector, choose_device
from services.anomaly.report_messages import write_examination
from services.anomaly.shelf import to_threshold
from services.anomaly.threshold import choose_threshold, count_needed_normals, split_folds
from services.anomaly.training import Plan, load_model, save_model, train_model
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.neighbours import worker_options
from services.runtime.weights import Weights, find_weights
from services.runtime.worker import Handler, Job, run_job

READING = "reading images"


def train_detector(request: anomaly_pb2.TrainDetectorRequest, job: Job) -> anomaly_pb2.TrainDetectorResponse:
    """Train the embedder of a detector on normal items and put it into the catalogue."""
    settings: AnomalySettings = job.settings
    weights = _find_weights(messages.read_plan(request, aligned=False).backbone, settings)
    with mekiki.Client(settings.codec_address, options=worker_options(settings)) as codec:
        encoding = _find_encoding(codec, request.items) if messages.is_prepared(request) else None
        plan = messages.read_plan(request, aligned=encoding is not None and _is_aligned(encoding))
        model = train_model(
            plan,
            _read_normals(codec, request.items, _count_normals(codec, request.items), job),
            _frame(encoding),
            weights.path if weights else None,
            choose_device(settings.device),
            Journal(lambda progress: _report(progress, job), job.save_checkpoint, job.load_checkpoint()),
        )
    about = _describe(plan, request.items.dataset, encoding, weights)
    catalogue = Catalogue.open(job.store)
    entry = catalogue.add(request.detector, about, save_model(model), job.operation_name)
    return anomaly_pb2.TrainDetectorResponse(detector=messages.write_detector(entry, catalogue.count_bank(entry)))


def calibrate_detector(
    request: anomaly_pb2.CalibrateDetectorRequest, job: Job
) -> anomaly_pb2.CalibrateDetectorResponse:
    """Score normals, each without its own part of the bank, and set the threshold from them."""
    settings: AnomalySettings = job.settings
    rate, confidence = messages.read_promise(request)
    catalogue = Catalogue.open(job.store)
    entry, detector = _open_detector(catalogue, request.detector, settings)
    with mekiki.Client(settings.codec_address, options=worker_options(settings)) as codec:
        described = [read.item for read in codec.codec.read_items(request.items, metadata_only=True)]
        _check_enough(len(described), rate, confidence)
        apart = _keep_apart(described, detector.normals.items, settings.calibration_folds)
        scores: list[float] = []
        for exclude, ids in _sort_by_fold(described, apart).items():
            fold = types_pb2.ItemFilter(dataset=request.items.dataset, item_ids=ids)
            for _, taken in take_items(codec, fold, entry.about):
                job.report(SCORING, len(scores), len(described))
                scores.append(detector.measure(taken.pixels, exclude))
    threshold = choose_threshold(np.array(scores), rate, confidence)
    key = f"scores/{secrets.token_hex(16)}.safetensors"
    calibration = Calibration(threshold.value, rate, confidence, len(scores), detector.normals.version, _now(), key)
    catalogue.calibrate(entry, calibration, np.array(scores))
    return anomaly_pb2.CalibrateDetectorResponse(threshold=messages.write_threshold(calibration), scores=sorted(scores))


def evaluate_detector(request: anomaly_pb2.EvaluateDetectorRequest, job: Job) -> anomaly_pb2.EvaluateDetectorResponse:
    """Score labelled items as ScoreImage would, and compare with the truth."""
    settings: AnomalySettings = job.settings
    entry, detector = _open_detector(Catalogue.open(job.store), request.detector, settings)
    normal_labels = set(request.normal_labels) or {"good"}
    with mekiki.Client(settings.codec_address, options=worker_options(settings)) as codec:
        examiner = Examiner(codec, detector, entry.about, request.items, normal_labels)
        return write_examination(examiner.examine(job.report), messages.write_model(entry, detector.normals.version))


def _find_weights(backbone: str, settings: AnomalySettings) -> Weights | None:
    repo = hub_repo(backbone)
    if backbone == SMALL_BACKBONE or repo is None:
        return None
    return find_weights(backbone, repo, settings.weights_dir, allow_hub=settings.weights_hub)


def _find_encoding(codec: mekiki.Client, items: types_pb2.ItemFilter) -> mekiki.Encoding:
    """The encoding that is asked for, or the newest; the detector stays with it."""
    encodings = codec.codec.get_dataset(items.dataset).encodings
    wanted = [encoding for encoding in encodings if items.encoding_id in ("", encoding.encoding_id)]
    if not wanted:
        which = f"encoding {items.encoding_id!r}" if items.encoding_id else "any encoding"
        raise FailedPrecondition("DATASET_NOT_ENCODED", f"data set {items.dataset!r} has not {which}: encode it first")
    items.encoding_id = wanted[-1].encoding_id
    return wanted[-1]


def _is_aligned(encoding: mekiki.Encoding) -> bool:
    return encoding.options.alignment is not mekiki.AlignmentMethod.NONE


def _frame(encoding: mekiki.Encoding | None) -> Framing:
    if encoding is None:
        return Framing()
    mask = np.ones((encoding.height, encoding.width), dtype=np.bool_) if encoding.mask is None else encoding.mask
    return Framing(mask)


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


def _describe(plan: Plan, dataset: str, encoding: mekiki.Encoding | None, weights: Weights | None) -> About:
    return About(
        engine=plan.engine,
        options=dataclasses.asdict(plan.options),
        backbone=plan.backbone,
        weights_source=weights.source if weights else "none",
        weights_description=_tell_origin(plan, weights),
        dataset=dataset,
        encoding_id=encoding.encoding_id if encoding else "",
        create_time=_now(),
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


def _open_detector(catalogue: Catalogue, detector: str, settings: AnomalySettings) -> tuple[Entry, Detector]:
    entry = catalogue.read().find(messages.read_reference(detector))
    device = choose_device(settings.device)
    model = load_model(catalogue.load_model(entry), device)
    snapshot = catalogue.open_bank(entry, model.engine.layout).snapshot
    return entry, Detector(model, snapshot, to_threshold(entry), device)


def _check_enough(normals: int, rate: float, confidence: float) -> None:
    """Refuses before anything is scored."""
    needed = count_needed_normals(rate, confidence)
    if normals < needed:
        choose_threshold(np.zeros(normals), rate, confidence)


def _keep_apart(items: list[mekiki.Item], enrolled: frozenset[str], folds: int) -> dict[str, frozenset[str]]:
    """For every enrolled item the items that it must not be compared with: its own fold.

    Items of one group (part, day) are in one fold: photos of one part are no strangers to each other. An item without a
    group is a group of its own.
    """
    groups: dict[str, list[str]] = {}
    for item in items:
        if item.item_id in enrolled:
            groups.setdefault(f"group {item.group}" if item.group else f"item {item.item_id}", []).append(item.item_id)
    if not groups:
        return {}
    if len(groups) == 1:
        raise FailedPrecondition("TOO_FEW_NORMALS", "the enrolled normals are of one group: nothing to compare it with")
    parts = split_folds(sorted(groups), min(folds, len(groups)))
    apart = [frozenset(item for group in part for item in groups[group]) for part in parts]
    return {item: fold for fold in apart for item in fold}


def _sort_by_fold(items: list[mekiki.Item], apart: dict[str, frozenset[str]]) -> dict[frozenset[str], list[str]]:
    """The items that are compared with the same part of the bank, by what it leaves out: it is made ready once."""
    found: dict[frozenset[str], list[str]] = {}
    for item in items:
        found.setdefault(apart.get(item.item_id, frozenset()), []).append(item.item_id)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat()


if __name__ == "__main__":
    handlers: dict[str, Handler] = {
        "TrainDetector": train_detector,
        "CalibrateDetector": calibrate_detector,
        "EvaluateDetector": evaluate_detector,
    }
    run_job(handlers, AnomalySettings)
