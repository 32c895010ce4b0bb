"""Trials: configurations of detectors, each trained with several seeds and measured, none of them kept."""

import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly import messages
from services.anomaly.examine import Examiner
from services.anomaly.learning import learn
from services.anomaly.model import Detector, choose_device
from services.anomaly.plan_messages import read_plan
from services.anomaly.report_messages import write_examination
from services.anomaly.rows import Rows
from services.anomaly.segment import Segment
from services.anomaly.snapshot import Snapshot
from services.anomaly.training import Model
from services.runtime.errors import InvalidArgument
from services.runtime.worker import Job

TRYING = "trials"
TRIALS, MAX_TRIALS = 3, 100
MAX_CONFIGURATIONS = 32


def read_trials(request: anomaly_pb2.RunTrialsRequest) -> int:
    """How many trials there are in all; the defaults are filled in.

    Raises:
        InvalidArgument: names the field.
    """
    if not 1 <= len(request.configurations) <= MAX_CONFIGURATIONS:
        count = len(request.configurations)
        raise InvalidArgument("configurations", f"must be 1 to {MAX_CONFIGURATIONS}, are {count}")
    request.trial_count = request.trial_count or TRIALS
    if not 1 <= request.trial_count <= MAX_TRIALS:
        raise InvalidArgument("trial_count", f"must be 1 to {MAX_TRIALS}, is {request.trial_count}")
    if not request.items.dataset:
        raise InvalidArgument("items.dataset", "must name a data set, is empty")
    names = [_read_configuration(number, each) for number, each in enumerate(request.configurations)]
    if len(set(names)) < len(names):
        raise InvalidArgument("configurations", "must have distinct names in `detector`, one is there twice")
    return len(names) * request.trial_count


def _read_configuration(number: int, configuration: anomaly_pb2.TrainDetectorRequest) -> str:
    try:
        read_plan(configuration, aligned=False)
        return messages.read_name(configuration.detector)
    except InvalidArgument as error:
        raise InvalidArgument(f"configurations[{number}].{error.field}", error.description) from None


def run_trial(
    request: anomaly_pb2.RunTrialsRequest, number: int, codec: mekiki.Client, job: Job
) -> anomaly_pb2.TrialSeries:
    """Trial `number`: a series of one, for `join_trials`.

    Args:
        request: with all defaults.
        number: trial n of configuration c has the number c * trial_count + n.
        codec: has the items.
        job: hears how it goes on; its checkpoint is this trial's.
    """
    chosen, trial = divmod(number, request.trial_count)
    configuration = anomaly_pb2.TrainDetectorRequest()
    configuration.CopyFrom(request.configurations[chosen])
    configuration.seed += trial
    start_s = time.monotonic()
    learned = learn(configuration, codec, job)
    normals = ((read.item.item_id, read.pixels) for read in codec.codec.read_items(configuration.items))
    detector = fill_bank(learned.model, normals, choose_device(job.settings.device), job)
    trained_s = time.monotonic() - start_s
    normal_labels = set(request.normal_labels) or {"good"}
    examination = Examiner(codec, detector, learned.about, request.items, normal_labels).examine(job.report)
    evaluation = write_examination(examination, types_pb2.ModelRef(name=configuration.detector))
    series = anomaly_pb2.TrialSeries(
        detector=configuration.detector, weights=messages.write_weights(learned.about), scores=evaluation.scores
    )
    made = series.trials.add(seed=configuration.seed, evaluation=evaluation)
    for field in ("scores", "roc", "model"):
        made.evaluation.ClearField(field)
    made.train_duration.FromMilliseconds(round(1000 * trained_s))
    return series


def fill_bank(
    model: Model, images: Iterable[tuple[str, NDArray[np.generic]]], device: torch.device, job: Job
) -> Detector:
    """A detector with images, by their names, in a bank of its own, which is nowhere but here."""
    empty = Detector(model, Snapshot(0), None, device)
    contributions = []
    for name, pixels in images:
        job.report("enrolling")
        contributions.append((name, empty.contribute_item(pixels)))
    bank = Snapshot(1, (Segment("trial", "", Rows.of(contributions), model.engine.layout),))
    model.engine.prepare(bank)
    return Detector(model, bank, None, device)


def join_trials(request: anomaly_pb2.RunTrialsRequest, parts: Sequence[bytes]) -> anomaly_pb2.RunTrialsResponse:
    """All series, from what `run_trial` made in order of its numbers."""
    made = [anomaly_pb2.TrialSeries.FromString(part) for part in parts]
    count = request.trial_count
    return anomaly_pb2.RunTrialsResponse(
        series=[_join_series(made[start : start + count]) for start in range(0, len(made), count)]
    )


def _join_series(trials: Sequence[anomaly_pb2.TrialSeries]) -> anomaly_pb2.TrialSeries:
    joined = anomaly_pb2.TrialSeries()
    joined.CopyFrom(trials[0])
    for other in trials[1:]:
        joined.trials.extend(other.trials)
    scores = {item.item_id: [item.score] for item in trials[0].scores}
    for other in trials[1:]:
        for item in other.scores:
            scores.get(item.item_id, []).append(item.score)
    for item in joined.scores:
        item.score = float(np.median(scores[item.item_id]))
    return joined
