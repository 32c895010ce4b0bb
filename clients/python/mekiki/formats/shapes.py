"""Boxes, polygons and masks as tools list them, brought together: a group with a box and a mask is one object."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mekiki import AnnotationState
from mekiki.formats.outlines import Ends, Outline
from mekiki.formats.told import ToldBox


@dataclass(frozen=True, eq=False)
class Shape:
    """One shape that a tool lists."""

    label: str
    group: object
    """What belongs together has the same one; 0, "" or None: by itself."""

    ends: Ends | None
    """None: those of the outline."""

    outline: Outline | None = None
    score: float = 1.0
    state: AnnotationState = AnnotationState.ACCEPTED


def join_shapes(shapes: Sequence[Shape]) -> tuple[ToldBox, ...]:
    """The objects of an image, in the order of their first shapes."""
    groups: dict[object, list[Shape]] = {}
    for number, shape in enumerate(shapes):
        key = ("group", str(shape.group), shape.label) if shape.group else ("alone", number)
        groups.setdefault(key, []).append(shape)
    return tuple(box for group in groups.values() for box in _join(group))


def _join(shapes: Sequence[Shape]) -> Iterable[ToldBox]:
    boxes = [shape for shape in shapes if shape.outline is None]
    outlines = [shape.outline for shape in shapes if shape.outline is not None]
    if len(boxes) == 1 and len(outlines) == 1:
        yield _to_box(boxes[0], outlines[0])
    else:  # a group of a user's own
        yield from (_to_box(shape, shape.outline) for shape in shapes)


def _to_box(shape: Shape, outline: Outline | None) -> ToldBox:
    ends = shape.ends or (outline or Outline()).bound()
    return ToldBox(shape.label, ends, outline=outline, score=shape.score, state=shape.state)
