"""The worker of boxfit's operations: `python -m services.boxfit.job boxfit/operations/<id>`."""

from mekiki import Client
from mekiki.boxfit.v1 import boxfit_pb2
from services.boxfit import messages
from services.boxfit.annotate import Plan, annotate_items
from services.boxfit.config import BoxfitSettings
from services.runtime.neighbours import worker_options
from services.runtime.worker import Job, run_job


def annotate(request: boxfit_pb2.AnnotateDatasetRequest, job: Job) -> boxfit_pb2.AnnotateDatasetResponse:
    """Annotate the items of a data set and write the boxes to them."""
    settings: BoxfitSettings = job.settings
    plan = Plan(
        dataset=request.items.dataset,
        classifier=request.classifier,
        options=messages.read_options(request.options),
        review_below=messages.read_review_below(request),
        use_item_labels=request.use_item_labels,
        skip_labels=frozenset(request.skip_labels),
        max_pixels=settings.max_pixels,
    )
    addresses = {"codec": settings.codec_address}
    with Client(settings.saliency_address, addresses=addresses, options=worker_options(settings)) as client:
        tally = annotate_items(client, plan, request.items, settings.stream_window, job)
    return messages.write_tally(tally)


if __name__ == "__main__":
    run_job({"AnnotateDataset": annotate}, BoxfitSettings)
