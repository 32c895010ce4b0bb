"""The worker of saliency's operations: `python -m services.saliency.job saliency/operations/<id>`."""

from datetime import UTC, datetime

import torch

import mekiki
from mekiki.saliency.v1 import saliency_pb2
from services.runtime.logs import get_logger
from services.runtime.neighbours import worker_options
from services.runtime.weights import Weights
from services.runtime.worker import Job, run_job
from services.saliency import messages
from services.saliency.catalogue import About, Catalogue
from services.saliency.config import SaliencySettings
from services.saliency.detection.work import train_detector
from services.saliency.figures import write_evaluation
from services.saliency.gather import Gathered, gather_items
from services.saliency.model import Classifier, choose_device
from services.saliency.origin import find_backbone_weights, tell_origin
from services.saliency.recipe import Recipe, Training, Watch
from services.saliency.segmentation.work import train_from_labels
from services.saliency.train import train_classifier


def train(request: saliency_pb2.TrainClassifierRequest, job: Job) -> saliency_pb2.TrainClassifierResponse:
    """Train a classifier on items of codec and put it into the catalogue."""
    settings: SaliencySettings = job.settings
    recipe, size = messages.read_recipe(request), messages.read_input_size(request)
    weights = find_backbone_weights(recipe.backbone, settings)
    gathered = _gather(request, recipe.find_stored_size(size), job)
    device = choose_device(settings.device)
    watch = Watch(job.report, job.save_checkpoint, job.load_checkpoint())
    path = weights.path if weights else None
    training = train_classifier(gathered.data, recipe, weights=path, device=device, watch=watch)
    about = _describe(training, recipe, size, weights)
    tensors = Classifier(training.network, training.labels, device, training.calibration).save()
    evaluation = write_evaluation(training.assessment).SerializeToString(deterministic=True)
    catalogue = Catalogue.open(job.store)
    entry = catalogue.add(request.classifier, about, tensors, job.operation_name, evaluation)
    told = catalogue.load_assessment(entry)  # of a job that is done twice, the first one's
    return saliency_pb2.TrainClassifierResponse(classifier=messages.write_classifier(entry, told))


def _gather(request: saliency_pb2.TrainClassifierRequest, size: int, job: Job) -> Gathered:
    settings: SaliencySettings = job.settings
    with mekiki.Client(settings.codec_address, options=worker_options(settings)) as codec:
        gathered = gather_items(codec, request.items, size, settings.max_training_items, job.report)
    if gathered.damaged:
        get_logger(operation=job.operation_name).warning("damaged items left out", items=gathered.damaged[:20])
    return gathered


def _describe(training: Training, recipe: Recipe, size: int, weights: Weights | None) -> About:
    return About(
        labels=training.labels,
        backbone=recipe.backbone,
        weights_source=weights.source if weights else "none",
        weights_description=tell_origin(recipe.backbone, weights),
        input_size=size,
        validation_accuracy=training.best.accuracy,
        split_by=training.split_by,
        train_count=training.train_count,
        validation_count=training.validation_count,
        best_epoch=training.best.number,
        create_time=datetime.now(UTC).isoformat(),
        recipe=recipe.name,
        temperature=training.calibration.temperature,
    )


if __name__ == "__main__":
    # Gradients of what has learnt well are next to nothing, and a processor takes ten times as long for denormals:
    # they count as zero. Threads to come inherit that.
    torch.set_flush_denormal(True)
    run_job(
        {"TrainClassifier": train, "TrainObjectDetector": train_detector, "TrainSegmenter": train_from_labels},
        SaliencySettings,
    )
