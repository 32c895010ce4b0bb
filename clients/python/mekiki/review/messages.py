"""Between the SDK's values and the page's JSON; what is wrong with a page's message is named."""

import json
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mekiki import Annotation, AnnotationState, Box, Item, ScoredImage, errors
from mekiki.review.drawn import check_drawn

MOST_DECISIONS = 256
"""In one message."""
MOST_BOXES = 1000
"""Of one item."""
MOST_TEXT = 255
"""Bytes of a label, an identifier or a category."""

Json = dict[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Edit:
    """An item is to carry these boxes, provided that it is still the one that the person saw.

    `drawn` is the text of what is to be known of its pixels, "" for nothing; None leaves that as it is.
    """

    item_id: str
    etag: str
    annotations: tuple[Annotation, ...]
    drawn: str | None = None


@dataclass(frozen=True)
class Enrol:
    """A false alarm: the item is to become one of the detector's normals."""

    item_id: str
    category: str


@dataclass(frozen=True)
class Forget:
    """That is to be taken back."""

    item_id: str


Decision = Edit | Enrol | Forget


def read_decisions(body: bytes) -> list[Decision]:
    """The decisions of a message, {"decisions": [...]}.

    Raises:
        InvalidArgument: it is no such message; names the field.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise errors.InvalidArgument("the body is no JSON", field="body") from None
    decisions = _get(told, "decisions", list, "body")
    if not 1 <= len(decisions) <= MOST_DECISIONS:
        raise errors.InvalidArgument(
            f"decisions: must be 1 to {MOST_DECISIONS}, are {len(decisions)}", field="decisions"
        )
    return [_read_decision(each, f"decisions[{number}]") for number, each in enumerate(decisions)]


def _read_decision(told: object, field: str) -> Decision:
    item_id = _get_text(told, "item_id", field)
    match _get_text(told, "kind", field):
        case "edit":
            boxes = _get(told, "annotations", list, field)
            if len(boxes) > MOST_BOXES:
                raise errors.InvalidArgument(
                    f"{field}.annotations: must be at most {MOST_BOXES}, are {len(boxes)}", field=f"{field}.annotations"
                )
            etag = _get_text(told, "etag", field)
            if not etag:
                raise errors.InvalidArgument(f"{field}.etag: must not be empty", field=f"{field}.etag")
            read = (_read_annotation(each, f"{field}.annotations[{number}]") for number, each in enumerate(boxes))
            return Edit(item_id, etag, tuple(read), _read_drawn(told, field))
        case "enrol":
            return Enrol(item_id, _get_text(told, "category", field))
        case "forget":
            return Forget(item_id)
        case other:
            raise errors.InvalidArgument(
                f"{field}.kind: must be edit, enrol or forget, is {other!r}", field=f"{field}.kind"
            )


def _read_drawn(told: object, field: str) -> str | None:
    if isinstance(told, dict) and told.get("drawn") is None:
        return None
    drawn = _get(told, "drawn", str, field)
    try:
        if drawn:
            check_drawn(drawn)
    except ValueError as error:
        raise errors.InvalidArgument(f"{field}.drawn: {error}", field=f"{field}.drawn") from None
    return drawn


def _read_annotation(told: object, field: str) -> Annotation:
    edges = _get(told, "box", list, field)
    whole = [edge for edge in edges if isinstance(edge, int) and not isinstance(edge, bool) and abs(edge) < 1 << 31]
    if len(edges) != 4 or len(whole) != 4:
        raise errors.InvalidArgument(f"{field}.box: must be four whole numbers of pixels", field=f"{field}.box")
    state = _get_text(told, "state", field)
    if state not in list(AnnotationState):
        raise errors.InvalidArgument(
            f"{field}.state: must be one of {', '.join(AnnotationState)}, is {state!r}", field=f"{field}.state"
        )
    return Annotation(
        box=Box(*whole),
        label=_get_text(told, "label", field),
        score=float(_get(told, "score", (int, float), field)),
        source=_get_text(told, "source", field),
        state=AnnotationState(state),
        needs_review=_get(told, "needs_review", bool, field),
        annotation_id=_get_text(told, "id", field),
    )


def _get(told: object, name: str, kind: type[Value] | tuple[type[Value], ...], field: str) -> Value:
    value = told.get(name) if isinstance(told, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = kind.__name__ if isinstance(kind, type) else "number"
        raise errors.InvalidArgument(f"{field}.{name}: must be a {names}", field=f"{field}.{name}")
    return value


def _get_text(told: object, name: str, field: str) -> str:
    text = _get(told, name, str, field)
    size = len(text.encode(errors="surrogatepass"))
    if size > MOST_TEXT:
        raise errors.InvalidArgument(
            f"{field}.{name}: must have at most {MOST_TEXT} bytes, has {size}", field=f"{field}.{name}"
        )
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise errors.InvalidArgument(f"{field}.{name}: must be Unicode text", field=f"{field}.{name}")
    return text


def sign_boxes(edit: Edit, reviewer: str) -> Edit:
    """The edit with the person's name as the source of the boxes that the page says nobody made."""
    return replace(edit, annotations=tuple(replace(each, source=each.source or reviewer) for each in edit.annotations))


def write_item(item: Item, drawn: str | None = None) -> Json:
    """An item for the page, with the text of what was drawn of it where that is known."""
    is_bare = not (item.has_mask or item.has_trimap)
    return {
        "id": item.item_id,
        "etag": item.etag,
        "sha256": item.sha256,
        "width": item.width,
        "height": item.height,
        "labels": item.labels,
        "group": item.group,
        "split": item.split,
        "has_mask": item.has_mask,
        "has_trimap": item.has_trimap,
        "drawn": "" if is_bare else drawn,
        "annotations": [_write_annotation(each) for each in item.annotations],
    }


def _write_annotation(annotation: Annotation) -> Json:
    box = annotation.box
    return {
        "id": annotation.annotation_id,
        "box": [box.x_min, box.y_min, box.x_max, box.y_max],
        "label": annotation.label,
        "score": annotation.score,
        "source": annotation.source,
        "state": annotation.state,
        "needs_review": annotation.needs_review,
    }


def write_verdict(item_id: str, scored: ScoredImage) -> Json:
    """What a detector says of an item, for the page."""
    region = scored.region
    return {
        "item_id": item_id,
        "score": scored.score,
        "threshold": scored.threshold,
        "verdict": scored.verdict or "",
        "p_value": scored.p_value,
        "region": None if region is None else [region.x_min, region.y_min, region.x_max, region.y_max],
        "category": scored.category,
        "nearest": scored.nearest_item_id,
        "aligned": scored.aligned,
        "model": f"{scored.model.name}@{scored.model.version}",
    }


def write_error(error: errors.MekikiError) -> Json:
    """Why something could not be done, for the page."""
    return {"error": type(error).__name__, "message": error.message, "reason": error.reason, "field": error.field}
