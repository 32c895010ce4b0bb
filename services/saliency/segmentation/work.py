"""The long work of segmenters: TrainSegmenter, as `services.saliency.job` calls it."""

from datetime import UTC, datetime

import mekiki
from mekiki.saliency.v1 import saliency_pb2
from services.runtime.errors import InvalidArgument
from services.runtime.logs import get_logger
from services.runtime.neighbours import worker_options
from services.runtime.weights import Weights
from services.runtime.worker import Job
from services.saliency.config import SaliencySettings
from services.saliency.model import choose_device
from services.saliency.origin import find_backbone_weights, tell_origin
from services.saliency.recipe import Watch
from services.saliency.segmentation import messages
from services.saliency.segmentation.catalogue import About, Catalogue, Entry, open_catalogue
from services.saliency.segmentation.gather import Gathered, gather_labelled_items
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.recipe import Recipe
from services.saliency.segmentation.train import train_segmenter


def train_from_labels(request: saliency_pb2.TrainSegmenterRequest, job: Job) -> saliency_pb2.TrainSegmenterResponse:
    """Train a segmenter on items of codec and put it into the catalogue."""
    settings: SaliencySettings = job.settings
    catalogue, device = open_catalogue(job.store), choose_device(settings.device)
    base = None
    if request.go_on:
        entry = _find_base(catalogue, request.segmenter, job.operation_name)
        request, base = messages.settle(request, entry), Segmenter.load(catalogue.load(entry), device)
    recipe, size = messages.read_recipe(request), messages.read_input_size(request)
    weights = find_backbone_weights(recipe.backbone, settings)
    gathered = _gather(request, size, job)
    if base:
        _check_labels(gathered.data.labels, base.labels)
    watch = Watch(job.report, job.save_checkpoint, job.load_checkpoint())
    path = weights.path if weights else None
    segmenter = train_segmenter(gathered.data, recipe, weights=path, device=device, watch=watch, base=base)
    about, tensors = _describe(segmenter, gathered, recipe, weights), segmenter.save()
    entry = catalogue.add(request.segmenter, about, tensors, job.operation_name)
    return saliency_pb2.TrainSegmenterResponse(segmenter=messages.write_segmenter(entry))


def _find_base(catalogue: Catalogue, name: str, operation: str) -> Entry:
    """The newest version that this very work did not make, when it ended and did not live to say so."""
    view = catalogue.read()
    others = [entry for entry in view.versions(name) if entry.operation != operation]
    return others[-1] if others else view.find(name)


def _check_labels(shown: tuple[str, ...], known: tuple[str, ...]) -> None:
    if shown != known:
        raise InvalidArgument("items", f"must show {', '.join(known)} to go on, show {', '.join(shown)}")


def _gather(request: saliency_pb2.TrainSegmenterRequest, size: int, job: Job) -> Gathered:
    settings: SaliencySettings = job.settings
    with mekiki.Client(settings.codec_address, options=worker_options(settings)) as codec:
        gathered = gather_labelled_items(
            codec,
            request.items,
            size,
            settings.max_training_items,
            job.report,
            normal_labels=request.normal_labels,
            use_masks=request.use_masks,
        )
    if gathered.damaged:
        get_logger(operation=job.operation_name).warning("damaged items left out", items=gathered.damaged[:20])
    return gathered


def _describe(segmenter: Segmenter, gathered: Gathered, recipe: Recipe, weights: Weights | None) -> About:
    return About(
        labels=segmenter.labels,
        engine=recipe.engine,
        backbone=recipe.backbone,
        weights_source=weights.source if weights else "none",
        weights_description=tell_origin(recipe.backbone, weights),
        input_size=segmenter.input_size,
        train_count=len(gathered.data.groups),
        left_out_count=gathered.left_out_count,
        masked_count=len(gathered.data.masks) + len(gathered.data.trimaps),
        create_time=datetime.now(UTC).isoformat(),
    )
