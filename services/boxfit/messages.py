"""Between boxfit's messages and its values."""

import dataclasses

import mekiki
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.types.v1 import types_pb2
from services.boxfit.annotate import Tally
from services.boxfit.calibration import Calibration, Confidence
from services.boxfit.foreground import ForegroundUse
from services.boxfit.growth import Growth
from services.boxfit.learn import Lesson
from services.boxfit.model import Fit, FitOptions, FitTask, Method, ObjectFit, ObjectOptions
from services.boxfit.objects import ObjectSearch
from services.boxfit.propose import Manner
from services.boxfit.teach import Evidence
from services.runtime.errors import InvalidArgument
from services.runtime.images import decode_heatmap, decode_mask

REVIEW_BELOW = 0.5

_METHODS = {
    boxfit_pb2.FIT_METHOD_UNSPECIFIED: Method.EXACT,
    boxfit_pb2.FIT_METHOD_EXACT: Method.EXACT,
    boxfit_pb2.FIT_METHOD_BAYESIAN: Method.BAYESIAN,
    boxfit_pb2.FIT_METHOD_TIGHT: Method.TIGHT,
    boxfit_pb2.FIT_METHOD_SOFT: Method.SOFT,
}
_SEARCHES = {
    boxfit_pb2.OBJECT_SEARCH_UNSPECIFIED: ObjectSearch.COMPONENTS,
    boxfit_pb2.OBJECT_SEARCH_COMPONENTS: ObjectSearch.COMPONENTS,
    boxfit_pb2.OBJECT_SEARCH_SUPPRESSION: ObjectSearch.SUPPRESSION,
}
_USES = {
    boxfit_pb2.FOREGROUND_USE_UNSPECIFIED: ForegroundUse.PLAIN_GROUND,
    boxfit_pb2.FOREGROUND_USE_ALWAYS: ForegroundUse.ALWAYS,
    boxfit_pb2.FOREGROUND_USE_PLAIN_GROUND: ForegroundUse.PLAIN_GROUND,
    boxfit_pb2.FOREGROUND_USE_NEVER: ForegroundUse.NEVER,
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
        objects=_read_objects(options),
    )


def _read_objects(options: boxfit_pb2.FitOptions) -> ObjectOptions:
    search = _SEARCHES.get(options.object_search)
    if search is None:
        raise InvalidArgument("options.object_search", f"{options.object_search} is no ObjectSearch")
    plain = ObjectOptions()
    return ObjectOptions(
        max_objects=options.max_objects if options.HasField("max_objects") else plain.max_objects,
        search=search,
        least_share=options.least_share if options.HasField("least_share") else plain.least_share,
        least_dip=options.least_dip if options.HasField("least_dip") else plain.least_dip,
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


def check_model(request: boxfit_pb2.AnnotateDatasetRequest) -> None:
    """Refuse what does not name one model, or asks a segmenter for what classifiers have. Raises InvalidArgument."""
    if not request.segmenter:
        check_classifier(request.classifier)
        return
    if request.classifier:
        raise InvalidArgument("classifier", f"must be empty beside a segmenter, is {request.classifier!r}")
    for field in ("explain", "calibration"):
        if request.HasField(field):
            raise InvalidArgument(field, "must be unset beside a segmenter: it is of a classifier's heat maps")
    if request.foreground:
        raise InvalidArgument("foreground", "must be unset beside a segmenter: its masks have edges of their own")


def read_manner(request: Reviewed) -> Manner:
    """Give how to annotate. Raises InvalidArgument naming the field."""
    options, review_below = read_options(request.options), read_review_below(request)
    if not request.HasField("calibration"):
        use = _read_use("foreground", request.foreground)
        return Manner(options, review_below, mekiki.ExplainOptions.from_proto(request.explain), use=use)
    if request.HasField("explain"):
        raise InvalidArgument("explain", "must be unset beside a calibration, which says how images are explained")
    if request.foreground:
        raise InvalidArgument("foreground", "must be unset beside a calibration, which says what is made of it")
    made = request.calibration
    if made.model.name != request.classifier:
        raise InvalidArgument(
            "calibration.model.name", f"must be the classifier {request.classifier!r}, is {made.model.name!r}"
        )
    method = read_options(boxfit_pb2.FitOptions(method=made.method)).method
    return Manner(
        options=dataclasses.replace(options, method=method),
        review_below=review_below,
        explain=mekiki.ExplainOptions.from_proto(made.explain),
        calibration=_read_calibration(made),
        version=made.model.version,
    )


def read_teaching(request: boxfit_pb2.CalibrateBoxesRequest) -> Manner:
    """Give how to look at what people judged. Raises InvalidArgument naming the field."""
    method = _METHODS.get(request.method)
    if method is None or method is Method.BAYESIAN:
        raise InvalidArgument("method", f"must be EXACT, SOFT or TIGHT, is {request.method}")
    explain = mekiki.ExplainOptions.from_proto(request.explain)
    return Manner(FitOptions(method=method), REVIEW_BELOW, explain)


def _read_use(field: str, number: boxfit_pb2.ForegroundUse.ValueType) -> ForegroundUse:
    use = _USES.get(number)
    if use is None:
        raise InvalidArgument(field, f"{number} is no ForegroundUse")
    return use


def _read_calibration(made: boxfit_pb2.BoxCalibration) -> Calibration:
    lessons = tuple(
        Lesson(
            label=label.label,
            threshold=label.threshold,
            growth=Growth(label.grow_left, label.grow_top, label.grow_right, label.grow_bottom),
            foreground=_read_use("calibration.labels.foreground", label.foreground),
        )
        for label in made.labels
    )
    return Calibration(lessons, Confidence(made.confidence_offset, made.confidence_slope, made.judged_count))


def write_calibration(
    calibration: Calibration, evidence: Evidence, manner: Manner, model: mekiki.ModelRef
) -> boxfit_pb2.CalibrateBoxesResponse:
    """Give the message of what was learned."""
    confidence = calibration.confidence
    return boxfit_pb2.CalibrateBoxesResponse(
        calibration=boxfit_pb2.BoxCalibration(
            model=types_pb2.ModelRef(name=model.name, version=model.version),
            explain=manner.explain.to_proto(),
            method=boxfit_pb2.FitMethod.Value(f"FIT_METHOD_{manner.options.method.upper()}"),
            labels=[_write_lesson(lesson) for lesson in calibration.lessons],
            confidence_offset=confidence.offset,
            confidence_slope=confidence.slope,
            judged_count=confidence.judged_count,
        ),
        item_count=evidence.items,
        failures=[boxfit_pb2.ItemFailure(item_id=item, reason=reason) for item, reason in evidence.failures],
    )


def _write_lesson(lesson: Lesson) -> boxfit_pb2.LabelCalibration:
    growth = lesson.growth
    return boxfit_pb2.LabelCalibration(
        label=lesson.label,
        threshold=lesson.threshold,
        grow_left=growth.left,
        grow_top=growth.top,
        grow_right=growth.right,
        grow_bottom=growth.bottom,
        box_count=lesson.box_count,
        mean_iou=lesson.mean_iou,
        default_mean_iou=lesson.default_mean_iou,
        foreground=boxfit_pb2.ForegroundUse.Value(f"FOREGROUND_USE_{lesson.foreground.upper()}"),
    )


def write_fits(found: tuple[ObjectFit, ...]) -> boxfit_pb2.FitBoxResponse:
    """Give the message of the objects' fits, the strongest first."""
    best, *others = (one.fit for one in found)
    return boxfit_pb2.FitBoxResponse(
        box=_write_box(best),
        iou=best.iou,
        optimal=best.optimal,
        evaluations=best.evaluations,
        others=[boxfit_pb2.FittedBox(box=_write_box(fit), iou=fit.iou, optimal=fit.optimal) for fit in others],
    )


def _write_box(fit: Fit) -> types_pb2.Box:
    box = fit.box
    return types_pb2.Box(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max)


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
