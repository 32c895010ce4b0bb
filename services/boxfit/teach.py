"""Calibrates boxes on what people judged: explain each item that they judged, look where its boxes would be, learn."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import mekiki
from mekiki.types.v1 import types_pb2
from services.boxfit.annotate import CHUNK, ITEM_ERRORS, Course, map_window
from services.boxfit.calibration import Calibration, learn_confidence
from services.boxfit.explaining import explain
from services.boxfit.foreground import refine_box, segment_foreground
from services.boxfit.growth import grow_box, measure_iou
from services.boxfit.learn import THRESHOLDS, WAYS, Lesson, Sample, learn_lessons
from services.boxfit.model import Box, FitOptions, Heat
from services.boxfit.objects import MAX_OBJECTS, ObjectOptions
from services.boxfit.propose import Manner, pose_sight, rate, to_box
from services.boxfit.sight import find_boxes, fit_boxes
from services.runtime.errors import FailedPrecondition, InvalidArgument

PHASE = "learning from boxes"
MAX_ITEMS = 2000
GOOD_IOU = 0.5  # with a box that a person accepted: the proposal counts as accepted, too
SAME_IOU = 0.7  # with a box that a person rejected: the proposal counts as rejected, too


@dataclass(frozen=True)
class Judged:
    """A box as boxfit would propose it, its raw score, and what a person said of it or of one much like it."""

    label: str
    raw: float
    found: Box
    accepted: tuple[Box, ...]
    rejected: tuple[Box, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Evidence:
    """What items taught, up to and with `after`, in the order of identifiers."""

    after: str = ""
    samples: tuple[Sample, ...] = ()
    judged: tuple[Judged, ...] = ()
    items: int = 0
    failures: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Self:
        """Reads a checkpoint; nothing where there is none."""
        if data is None:
            return cls()
        told = json.loads(data)
        return cls(
            after=told["after"],
            samples=tuple(_read_sample(sample) for sample in told["samples"]),
            judged=tuple(_read_judged(judged) for judged in told["judged"]),
            items=told["items"],
            failures=tuple((item, reason) for item, reason in told["failures"]),
        )

    def to_bytes(self) -> bytes:
        """Writes a checkpoint."""
        return json.dumps(asdict(self)).encode()

    def add(self, other: Self) -> Self:
        """Both together."""
        return replace(
            self,
            samples=self.samples + other.samples,
            judged=self.judged + other.judged,
            items=self.items + other.items,
            failures=self.failures + other.failures,
        )


def teach(
    client: mekiki.Client,
    classifier: str,
    manner: Manner,
    items: types_pb2.ItemFilter,
    max_pixels: int,
    window: int,
    course: Course,
) -> tuple[Calibration, Evidence]:
    """Learn from what people judged among `items`, going on from the last checkpoint.

    Raises:
        InvalidArgument: there are more than `MAX_ITEMS` such items.
        FailedPrecondition: no person has accepted a box; or the classifier was trained again meanwhile.
        MekikiError: of the SDK.
    """
    evidence = Evidence.from_bytes(course.load_checkpoint())
    wanted = types_pb2.ItemFilter()
    wanted.CopyFrom(items)
    wanted.form = types_pb2.ITEM_FORM_ORIGINAL
    names = [read.item.item_id for read in client.codec.read_items(wanted, metadata_only=True) if _is_judged(read.item)]
    if len(names) > MAX_ITEMS:
        raise InvalidArgument("items", f"must be at most {MAX_ITEMS} with boxes of people, are {len(names)}")
    rest = [name for name in names if name > evidence.after]

    def look(read: mekiki.ReadItem) -> Evidence:
        return _look(client, classifier, manner, read, max_pixels)

    with ThreadPoolExecutor(window, thread_name_prefix="teach") as pool:
        for start in range(0, len(rest), CHUNK):
            chunk = rest[start : start + CHUNK]
            reads = client.codec.read_items(mekiki.ItemFilter(items.dataset, item_ids=chunk))
            for found in map_window(pool, look, reads, window):
                evidence = evidence.add(found)
                course.report(PHASE, evidence.items + len(evidence.failures), len(names))
            evidence = replace(evidence, after=chunk[-1])
            course.save_checkpoint(evidence.to_bytes())
    if not evidence.samples:
        raise FailedPrecondition("NO_ACCEPTED_BOXES", f"no person has accepted a box in {items.dataset!r} yet")
    return _learn(evidence), evidence


def _learn(evidence: Evidence) -> Calibration:
    lessons = learn_lessons(evidence.samples)
    calibration = Calibration(lessons)
    judged = [verdict for one in evidence.judged for verdict in _judge(one, calibration.find(one.label))]
    return Calibration(lessons, learn_confidence(judged))


def _judge(judged: Judged, lesson: Lesson | None) -> Iterator[tuple[float, bool]]:
    """The raw score with what a person would say; nothing where that is not known."""
    found = grow_box(judged.found, lesson.growth, judged.size) if lesson else judged.found
    if judged.accepted:
        yield judged.raw, max(measure_iou(found, box) for box in judged.accepted) >= GOOD_IOU
    elif any(measure_iou(found, box) >= SAME_IOU for box in judged.rejected):
        yield judged.raw, False


def _is_judged(item: mekiki.Item) -> bool:
    return any(annotation.state is not mekiki.AnnotationState.PROPOSED for annotation in item.annotations)


def _look(client: mekiki.Client, classifier: str, manner: Manner, read: mekiki.ReadItem, max_pixels: int) -> Evidence:
    try:
        labels = sorted({note.label for note in read.item.annotations if _says(note, accepted=True, rejected=True)})
        parts = [_look_for(client, classifier, manner, read, label, max_pixels) for label in labels]
    except ITEM_ERRORS as error:
        return Evidence(failures=((read.item.item_id, str(error)),))
    found = Evidence(items=1)
    for part in parts:
        found = found.add(part)
    return found


def _look_for(
    client: mekiki.Client, classifier: str, manner: Manner, read: mekiki.ReadItem, label: str, max_pixels: int
) -> Evidence:
    """What one label's boxes on an item teach; nothing where nothing speaks for the label."""
    explanation = explain(client, classifier, read.pixels, label, manner.explain)
    sight = pose_sight(explanation, manner, max_pixels, read.pixels)
    if sight is None:
        return Evidence()
    notes = [note for note in read.item.annotations if note.label == label]
    accepted = tuple(to_box(note.box) for note in notes if _says(note, accepted=True))
    rejected = tuple(to_box(note.box) for note in notes if _says(note, rejected=True))
    manner = replace(manner, options=_allow(manner, len(accepted)))
    samples = _take_samples(sight.heat, manner, label, accepted, sight.size, read) if accepted else ()
    best = find_boxes(replace(sight, options=manner.options))[0]
    judged = Judged(label, rate(explanation, best), best.box, accepted, rejected, sight.size)
    return Evidence(samples=samples, judged=(judged,))


def _allow(manner: Manner, count: int) -> FitOptions:
    """As many objects as the person saw."""
    return replace(manner.options, objects=ObjectOptions(max_objects=min(max(count, 1), MAX_OBJECTS)))


def _take_samples(
    heat: Heat, manner: Manner, label: str, accepted: Sequence[Box], size: tuple[int, int], read: mekiki.ReadItem
) -> tuple[Sample, ...]:
    """For each accepted box the nearest one that each way finds."""
    foreground = segment_foreground(read.pixels)
    drawn = {one: fit_boxes(heat, replace(manner.options, threshold=one), size) for one in THRESHOLDS}
    ways = [[refine_box(foreground, box, size, use) for box in drawn[threshold]] for threshold, use in WAYS]
    return tuple(
        Sample(label, wanted, tuple(max(boxes, key=lambda box: measure_iou(box, wanted)) for boxes in ways), size)
        for wanted in accepted
    )


def _says(note: mekiki.Annotation, *, accepted: bool = False, rejected: bool = False) -> bool:
    state = note.state
    yes = accepted and state is mekiki.AnnotationState.ACCEPTED
    return yes or (rejected and state is mekiki.AnnotationState.REJECTED)


def _read_sample(told: dict[str, Any]) -> Sample:
    found = tuple(Box(**box) for box in told["found"])
    return Sample(told["label"], Box(**told["wanted"]), found, tuple(told["size"]))


def _read_judged(told: dict[str, Any]) -> Judged:
    return Judged(
        label=told["label"],
        raw=told["raw"],
        found=Box(**told["found"]),
        accepted=tuple(Box(**box) for box in told["accepted"]),
        rejected=tuple(Box(**box) for box in told["rejected"]),
        size=tuple(told["size"]),
    )
