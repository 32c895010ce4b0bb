"""The worker of anomaly's operations: `python -m services.anomaly.job anomaly/operations/<id>`."""

import secrets

import torch

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from services.anomaly import messages
from services.anomaly.calibrate import Calibrator
from services.anomaly.calibration_messages import read_promise, write_calibration
from services.anomaly.catalogue import Catalogue
from services.anomaly.config import AnomalySettings
from services.anomaly.entries import Calibration, Entry, Limit
from services.anomaly.examine import Examiner
from services.anomaly.learning import learn, now
from services.anomaly.model import Detector, choose_device
from services.anomaly.report_messages import write_examination
from services.anomaly.shelf import to_standards
from services.anomaly.threshold import choose_threshold
from services.anomaly.training import load_model, save_model
from services.anomaly.trials import TRYING, join_trials, run_trial
from services.anomaly.tuning import Tuner
from services.anomaly.tuning_messages import write_tuning
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
    """Score normals, each without its own part of the bank, and set the thresholds from them."""
    settings: AnomalySettings = job.settings
    rate, confidence = read_promise(request)
    catalogue = Catalogue.open(job.store)
    entry, detector = _open_detector(catalogue, request.detector, settings)
    with mekiki.Client(settings.codec_address, options=worker_options(settings)) as codec:
        calibrator = Calibrator(codec, detector, entry.about, request.items, settings.calibration_folds)
        scores = calibrator.score(rate, confidence, job.report)
    limits = {
        category: Limit(choose_threshold(each, rate, confidence).value, len(each)) for category, each in scores.items()
    }
    key = f"scores/{secrets.token_hex(16)}.safetensors"
    calibration = Calibration(limits, rate, confidence, detector.normals.version, now(), key)
    catalogue.calibrate(entry, calibration, scores)
    return write_calibration(calibration, scores)


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


def tune_compression(request: anomaly_pb2.TuneCompressionRequest, job: Job) -> anomaly_pb2.TuneCompressionResponse:
    """Find the largest rate factor at which a detector judges no worse."""
    with mekiki.Client(job.settings.codec_address, options=worker_options(job.settings)) as codec:
        return write_tuning(Tuner(request, codec, job).tune())


def _open_detector(catalogue: Catalogue, detector: str, settings: AnomalySettings) -> tuple[Entry, Detector]:
    entry = catalogue.read().find(messages.read_reference(detector))
    device = choose_device(settings.device)
    model = load_model(catalogue.load_model(entry), device)
    snapshot = catalogue.open_bank(entry, model.engine.layout).snapshot
    return entry, Detector(model, snapshot, to_standards(entry, {}), device)


if __name__ == "__main__":
    # Gradients of what has learnt well are next to nothing, and a processor takes ten times as long for denormals:
    # they count as zero. Threads to come inherit that.
    torch.set_flush_denormal(True)
    handlers: dict[str, Handler] = {
        "TrainDetector": train_detector,
        "CalibrateDetector": calibrate_detector,
        "EvaluateDetector": evaluate_detector,
        "RunTrials": run_trials,
        "TuneCompression": tune_compression,
    }
    run_job(handlers, AnomalySettings)
