"""From saliency's explanation to a proposed annotation, and from proposals to what an item carries."""

import numpy as np

import mekiki
from services.boxfit.model import Fit, FitOptions, FitTask
from services.runtime.errors import InvalidArgument

SOURCE = "boxfit/"


def pose_task(explanation: mekiki.Explanation, options: FitOptions, max_pixels: int) -> FitTask | None:
    """Give the fit to do in pixels of the image as sent; None where nothing in it speaks for the label.

    Raises:
        InvalidArgument: the image has more than `max_pixels` pixels.
    """
    size = explanation.image_width, explanation.image_height
    if size[0] * size[1] > max_pixels:
        raise InvalidArgument("image", f"must have at most {max_pixels} pixels, has {size[0]} x {size[1]}")
    heat = np.asarray(explanation.heatmap.values, dtype=np.float32)
    return FitTask(heat, options, size) if heat.any() else None


def propose(explanation: mekiki.Explanation, fit: Fit, options: FitOptions, review_below: float) -> mekiki.Annotation:
    """Make the annotation; its score is the label's probability times the IoU of box and binary map."""
    score = explanation.score * fit.iou
    model = explanation.model
    return mekiki.Annotation(
        box=mekiki.Box(fit.box.x_min, fit.box.y_min, fit.box.x_max, fit.box.y_max),
        label=explanation.label,
        score=score,
        source=f"{SOURCE}{options.method} saliency/{model.name}@{model.version}",
        state=mekiki.AnnotationState.PROPOSED,
        needs_review=score < review_below,
    )


def is_settled(item: mekiki.Item) -> bool:
    """Whether a person has accepted a box of the item, so that no machine has a say in it any more."""
    return any(annotation.state is mekiki.AnnotationState.ACCEPTED for annotation in item.annotations)


def is_rejected(item: mekiki.Item, proposal: mekiki.Annotation) -> bool:
    """Whether a person has rejected this very box for this label before."""
    return any(
        annotation.state is mekiki.AnnotationState.REJECTED
        and (annotation.box, annotation.label) == (proposal.box, proposal.label)
        for annotation in item.annotations
    )


def replace_proposals(item: mekiki.Item, proposal: mekiki.Annotation) -> list[mekiki.Annotation]:
    """Put the proposal in place of boxfit's earlier ones; what a person judged or somebody else made stays."""
    kept = [
        annotation
        for annotation in item.annotations
        if annotation.state is not mekiki.AnnotationState.PROPOSED or not annotation.source.startswith(SOURCE)
    ]
    return [*kept, proposal]
