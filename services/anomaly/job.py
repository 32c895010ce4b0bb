"""The worker of anomaly's operations: `python -m services.anomaly.job anomaly/operations/<id>`."""

import secrets

import numpy as np

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly import messages
from services.anomaly.catalogue import Catalogue
from services.anomaly.config import AnomalySettings
from services.anomaly.entries import Calibration, Entry
from services.anomaly.examine import SCORING, Examiner
from services.anomaly.intake import take_items
from services.anomaly.learning import learn, now
from services.anomaly.model import Detector, choose_device
from services.anomaly.report_messages import write_examination
from services.anomaly.shelf import to_threshold
from services.anomaly.threshold import choose_threshold, count_needed_normals, split_folds
from services.anomaly.training import load_model, save_model
from services.anomaly.trials import TRYING, join_trials, run_trial
from services.runtime.errors import FailedPrecondition
from services.runtime.neighbours import worker_options
from services.runtime.worker import Handler, Job, run_job


def train_detector(request: anomaly_pb2.TrainDetectorRequest, job: Job) -> anomaly_pb2.TrainDetectorResponse:
    """Train the embedder of a detector on normal items and put it into the catalogue."""
    with mekiki.Client(job.settings.codec_address, options=worker_options(job.settings)) as codec:
        learned = learn(request, codec, job)
    catalogue = Catalogue.open(job.store)
    entry = catalogue.add(request.detector, learned.about, save_model(learned.model), job.operation_name)
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
    calibration = Calibration(threshold.value, rate, confidence, len(scores), detector.normals.version, now(), key)
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


def run_trials(request: anomaly_pb2.RunTrialsRequest, job: Job) -> anomaly_pb2.RunTrialsResponse | None:
    """Train and measure every configuration with every seed; a trial is a part of the work."""
    with mekiki.Client(job.settings.codec_address, options=worker_options(job.settings)) as codec:
        parts = job.do_parts(TRYING, lambda number, part: run_trial(request, number, codec, part).SerializeToString())
    return None if parts is None else join_trials(request, parts)


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


if __name__ == "__main__":
    handlers: dict[str, Handler] = {
        "TrainDetector": train_detector,
        "CalibrateDetector": calibrate_detector,
        "EvaluateDetector": evaluate_detector,
        "RunTrials": run_trials,
    }
    run_job(handlers, AnomalySettings)
