"""Brings a training's items with their boxes from codec into a file of pictures, one at a time."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import mekiki
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.saliency.detection.letterbox import Boxes, fit_into_square
from services.saliency.detection.recipe import PictureSet
from services.saliency.recipe import Report

PHASE = "reading images"
MOST_LABELS = 500
LEAST_SIDE = 2  # pixels of a box in the square; a smaller one cannot be seen there


@dataclass(frozen=True)
class Gathered:
    """What there is to train on; `damaged` names the items that could not be read.

    `undecided` counts those left out because nobody knows what is on them: all their boxes are rejected, or proposed
    where only accepted ones count.
    """

    data: PictureSet
    damaged: tuple[str, ...]
    undecided: int

    @property
    def left_out_count(self) -> int:
        """Items that are not trained on."""
        return len(self.damaged) + self.undecided


@dataclass(frozen=True)
class _Plan:
    """Which items are read, and which of their boxes count."""

    marks: dict[str, tuple[mekiki.Annotation, ...]]
    labels: tuple[str, ...]
    undecided: int


def gather_boxed_items(
    codec: mekiki.Client,
    items: types_pb2.ItemFilter,
    size: int,
    limit: int,
    report: Report,
    *,
    include_proposed: bool,
) -> Gathered:
    """Read all items that `items` selects and whose boxes are known, each fitted into (size, size, 3) as it arrives.

    In memory there is one image at a time: the pictures lie in a temporary file, mapped, and vanish with the set.
    An item without any annotation is one without objects. Damaged items are left out and reported.
    Raises InvalidArgument (before any pixel is read) for no box at all, too many labels, or more than `limit` items.
    """
    wanted = types_pb2.ItemFilter()
    wanted.CopyFrom(items)
    wanted.form = types_pb2.ITEM_FORM_ORIGINAL
    plan = _plan(codec, wanted, limit, include_proposed=include_proposed)
    pictures = _Pictures(plan.labels)
    damaged: list[str] = []
    with tempfile.TemporaryFile() as spool:
        for read in _read_chosen(codec, wanted, plan):
            if read.error is not None:
                damaged.append(read.item.item_id)
            else:
                spool.write(pictures.add(read, plan.marks[read.item.item_id], size))
            report(PHASE, len(pictures.groups) + len(damaged), len(plan.marks), damaged_items=len(damaged))
        spool.flush()
        shape = (len(pictures.groups), size, size, 3)
        if not shape[0]:
            raise InvalidArgument("items", f"all {len(damaged)} items are damaged")
        pixels = np.memmap(spool, np.uint8, mode="r", shape=shape)
    return Gathered(pictures.close(pixels), tuple(damaged), plan.undecided)


class _Pictures:
    """What is known of the pictures but their pixels, as they arrive."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._extents: list[tuple[int, int]] = []
        self._boxes: list[Boxes] = []
        self._classes: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        self.groups: list[str] = []

    def add(self, read: mekiki.ReadItem, marks: tuple[mekiki.Annotation, ...], size: int) -> bytes:
        """Take an item, and give its picture."""
        letter = fit_into_square(read.pixels, size, f"items/{read.item.item_id}")
        corners = [(mark.box.x_min, mark.box.y_min, mark.box.x_max, mark.box.y_max) for mark in marks]
        boxes = np.array(corners, np.float32).reshape(-1, 4) * np.float32(letter.scale)
        boxes = np.clip(boxes, 0, np.array([letter.width, letter.height] * 2, np.float32))
        seen = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= LEAST_SIDE
        classes = np.array([self._numbers[mark.label] for mark in marks], np.int64)
        self._extents.append((letter.width, letter.height))
        self._boxes.append(boxes[seen])
        self._classes.append(classes[seen])
        self.groups.append(read.item.group)
        return letter.pixels.tobytes()

    def close(self, pixels: np.memmap[tuple[int, ...], np.dtype[np.uint8]]) -> PictureSet:
        """Give the set with its pixels."""
        extents = np.array(self._extents, np.int64)
        return PictureSet(pixels, extents, tuple(self._boxes), tuple(self._classes), self._labels, tuple(self.groups))


def _plan(codec: mekiki.Client, items: types_pb2.ItemFilter, limit: int, *, include_proposed: bool) -> _Plan:
    marks: dict[str, tuple[mekiki.Annotation, ...]] = {}
    undecided = 0
    for read in codec.codec.read_items(items, metadata_only=True):
        chosen = choose_marks(read.item, include_proposed=include_proposed)
        if chosen is None:
            undecided += 1
        else:
            marks[read.item.item_id] = chosen
        if len(marks) > limit:
            raise InvalidArgument("items", f"must be at most MEKIKI_MAX_TRAINING_ITEMS, {limit}, are more")
    labels = tuple(sorted({mark.label for chosen in marks.values() for mark in chosen}))
    if not labels:
        why = "" if include_proposed else "; proposed ones count only with include_proposed"
        raise InvalidArgument("items", f"must hold boxes, {len(marks) + undecided} items hold none{why}")
    if len(labels) > MOST_LABELS:
        raise InvalidArgument("items", f"must have boxes of at most {MOST_LABELS} labels, have {len(labels)}")
    return _Plan(marks, labels, undecided)


def choose_marks(item: mekiki.Item, *, include_proposed: bool) -> tuple[mekiki.Annotation, ...] | None:
    """The boxes of an item that count; None where nobody knows what is on it."""
    states = {mekiki.AnnotationState.ACCEPTED}
    if include_proposed:
        states.add(mekiki.AnnotationState.PROPOSED)
    chosen = tuple(mark for mark in item.annotations if mark.state in states and mark.label)
    return chosen if chosen or not item.annotations else None


def _read_chosen(codec: mekiki.Client, items: types_pb2.ItemFilter, plan: _Plan) -> Iterator[mekiki.ReadItem]:
    """The items of the plan; what was appended since is passed over."""
    return (read for read in codec.codec.read_items(items) if read.item.item_id in plan.marks)
