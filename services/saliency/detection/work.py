"""The long work of object detectors: TrainObjectDetector, as `services.saliency.job` calls it."""

from datetime import UTC, datetime

import mekiki
from mekiki.saliency.v1 import saliency_pb2
from services.runtime.logs import get_logger
from services.runtime.neighbours import worker_options
from services.runtime.weights import Weights
from services.runtime.worker import Job
from services.saliency.config import SaliencySettings
from services.saliency.detection import messages
from services.saliency.detection.catalogue import About, open_catalogue
from services.saliency.detection.gather import Gathered, gather_boxed_items
from services.saliency.detection.recipe import Recipe
from services.saliency.detection.train import Training, train_object_detector
from services.saliency.model import choose_device
from services.saliency.origin import find_backbone_weights, tell_origin
from services.saliency.recipe import Watch


def train_detector(
    request: saliency_pb2.TrainObjectDetectorRequest, job: Job
) -> saliency_pb2.TrainObjectDetectorResponse:
    """Train an object detector on items of codec and put it into the catalogue."""
    settings: SaliencySettings = job.settings
    recipe, size = messages.read_recipe(request), messages.read_input_size(request)
    weights = find_backbone_weights(recipe.backbone, settings)
    gathered = _gather(request, size, job)
    watch = Watch(job.report, job.save_checkpoint, job.load_checkpoint())
    path, device = weights.path if weights else None, choose_device(settings.device)
    training = train_object_detector(gathered.data, recipe, weights=path, device=device, watch=watch)
    about = _describe(training, gathered, recipe, weights)
    tensors = training.detector.save()
    entry = open_catalogue(job.store).add(request.object_detector, about, tensors, job.operation_name)
    return saliency_pb2.TrainObjectDetectorResponse(object_detector=messages.write_detector(entry))


def _gather(request: saliency_pb2.TrainObjectDetectorRequest, size: int, job: Job) -> Gathered:
    settings: SaliencySettings = job.settings
    with mekiki.Client(settings.codec_address, options=worker_options(settings)) as codec:
        gathered = gather_boxed_items(
            codec,
            request.items,
            size,
            settings.max_training_items,
            job.report,
            include_proposed=request.include_proposed,
        )
    if gathered.damaged:
        get_logger(operation=job.operation_name).warning("damaged items left out", items=gathered.damaged[:20])
    return gathered


def _describe(training: Training, gathered: Gathered, recipe: Recipe, weights: Weights | None) -> About:
    return About(
        labels=gathered.data.labels,
        backbone=recipe.backbone,
        weights_source=weights.source if weights else "none",
        weights_description=tell_origin(recipe.backbone, weights),
        input_size=training.detector.network.input_size,
        mean_average_precision=training.best.mean_average_precision,
        mean_average_precision_50=training.best.mean_average_precision_50,
        split_by=training.split_by,
        train_count=training.train_count,
        validation_count=training.validation_count,
        box_count=training.box_count,
        left_out_count=gathered.left_out_count,
        best_epoch=training.best.number,
        create_time=datetime.now(UTC).isoformat(),
    )
