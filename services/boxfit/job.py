"""The worker of boxfit's operations: `python -m services.boxfit.job boxfit/operations/<id>`."""

from dataclasses import replace

from mekiki import Client, ModelRef
from mekiki.boxfit.v1 import boxfit_pb2
from services.boxfit import messages
from services.boxfit.annotate import Plan, annotate_items
from services.boxfit.config import BoxfitSettings
from services.boxfit.teach import teach
from services.runtime.neighbours import worker_options
from services.runtime.worker import Job, run_job


def annotate(request: boxfit_pb2.AnnotateDatasetRequest, job: Job) -> boxfit_pb2.AnnotateDatasetResponse:
    """Annotate the items of a data set and write the boxes to them."""
    settings: BoxfitSettings = job.settings
    plan = Plan(
        dataset=request.items.dataset,
        classifier=request.classifier,
        manner=messages.read_manner(request),
        use_item_labels=request.use_item_labels,
        skip_labels=frozenset(request.skip_labels),
        max_pixels=settings.max_pixels,
        segmenter=request.segmenter,
    )
    with _open_neighbours(settings) as client:
        tally = annotate_items(client, plan, request.items, settings.stream_window, job)
    return messages.write_tally(tally)


def calibrate(request: boxfit_pb2.CalibrateBoxesRequest, job: Job) -> boxfit_pb2.CalibrateBoxesResponse:
    """Learn from the boxes that people judged."""
    settings: BoxfitSettings = job.settings
    with _open_neighbours(settings) as client:
        classifier = client.saliency.get_classifier(request.classifier)
        manner = replace(messages.read_teaching(request), version=classifier.version)
        limits = settings.max_pixels, settings.stream_window
        calibration, evidence = teach(client, request.classifier, manner, request.items, *limits, job)
    model = ModelRef(classifier.name, classifier.version)
    return messages.write_calibration(calibration, evidence, manner, model)


def _open_neighbours(settings: BoxfitSettings) -> Client:
    addresses = {"codec": settings.codec_address}
    return Client(settings.saliency_address, addresses=addresses, options=worker_options(settings))


if __name__ == "__main__":
    run_job({"AnnotateDataset": annotate, "CalibrateBoxes": calibrate}, BoxfitSettings)
