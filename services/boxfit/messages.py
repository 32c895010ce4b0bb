"""Between boxfit's messages and its values."""

import mekiki
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.types.v1 import types_pb2
from services.boxfit.annotate import Tally
from services.boxfit.model import Fit, FitOptions, FitTask, Method
from services.runtime.errors import InvalidArgument
from services.runtime.images import decode_heatmap, decode_mask

REVIEW_BELOW = 0.5

_METHODS = {
    boxfit_pb2.FIT_METHOD_UNSPECIFIED: Method.EXACT,
    boxfit_pb2.FIT_METHOD_EXACT: Method.EXACT,
    boxfit_pb2.FIT_METHOD_BAYESIAN: Method.BAYESIAN,
    boxfit_pb2.FIT_METHOD_TIGHT: Method.TIGHT,
}


Reviewed = boxfit_pb2.AnnotateImageRequest | boxfit_pb2.AnnotateDatasetRequest


def read_options(options: boxfit_pb2.FitOptions) -> FitOptions:
    """Give the options, defaults filled in. Raises InvalidArgument naming the field."""
    method = _METHODS.get(options.method)
    if method is None:
        raise InvalidArgument("options.method", f"{options.method} is no FitMethod")
    plain = FitOptions()
    return FitOptions(
        method=method,
        threshold=options.threshold if options.HasField("threshold") else plain.threshold,
        max_iterations=options.max_iterations if options.HasField("max_iterations") else plain.max_iterations,
        seed=options.seed,
    )


def read_task(request: boxfit_pb2.FitBoxRequest, max_pixels: int) -> FitTask:
    """Decode the map to fit. Raises InvalidArgument where there is none, or it is damaged or too large."""
    options = read_options(request.options)
    match request.WhichOneof("map"):
        case "mask":
            return FitTask(decode_mask(request.mask, max_pixels), options)
        case "heatmap":
            return FitTask(decode_heatmap(request.heatmap, max_pixels), options)
        case _:
            raise InvalidArgument("map", "one of mask or heatmap must be set")


def read_review_below(request: Reviewed) -> float:
    """Give the score below which a person should look. Raises InvalidArgument outside of 0 to 1."""
    if not request.HasField("review_below"):
        return REVIEW_BELOW
    if not 0 <= request.review_below <= 1:
        raise InvalidArgument("review_below", f"must be 0 to 1, is {request.review_below}")
    return request.review_below


def check_classifier(name: str) -> None:
    """Refuse an empty name; saliency judges any other."""
    if not name:
        raise InvalidArgument("classifier", "must name a classifier of saliency, is empty")


def write_fit(fit: Fit) -> boxfit_pb2.FitBoxResponse:
    """Give the message of a fit."""
    box = fit.box
    return boxfit_pb2.FitBoxResponse(
        box=types_pb2.Box(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max),
        iou=fit.iou,
        optimal=fit.optimal,
        evaluations=fit.evaluations,
    )


def write_annotated(
    explanation: mekiki.Explanation, annotations: list[mekiki.Annotation]
) -> boxfit_pb2.AnnotateImageResponse:
    """Give the message of an annotated image."""
    model = explanation.model
    return boxfit_pb2.AnnotateImageResponse(
        annotations=[annotation.to_proto() for annotation in annotations],
        model=types_pb2.ModelRef(name=model.name, version=model.version),
        image_width=explanation.image_width,
        image_height=explanation.image_height,
    )


def write_tally(tally: Tally) -> boxfit_pb2.AnnotateDatasetResponse:
    """Give the message of an annotated data set."""
    return boxfit_pb2.AnnotateDatasetResponse(
        annotated_count=tally.annotated,
        skipped_count=tally.skipped,
        needs_review_count=tally.needs_review,
        failures=[boxfit_pb2.ItemFailure(item_id=item, reason=reason) for item, reason in tally.failures],
    )
