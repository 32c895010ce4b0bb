"""Annotates the items of a data set: explain, fit, write; in order, from where the last worker stopped."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Protocol, Self, TypeVar

import mekiki
from mekiki.types.v1 import types_pb2
from services.boxfit.explaining import explain, outline
from services.boxfit.foreground import ForegroundUse
from services.boxfit.propose import Manner, Seen, is_rejected, is_settled, pose_sight, propose, replace_proposals
from services.boxfit.sight import find_boxes
from services.runtime.errors import InvalidArgument

Result = TypeVar("Result")

PHASE = "annotating"
CHUNK = 32  # items between two checkpoints
UPDATE_ATTEMPTS = 5

# What one item may fail with while the others go on; that a neighbour is gone ends the operation instead.
ITEM_ERRORS = (
    InvalidArgument,
    mekiki.errors.InvalidArgument,
    mekiki.errors.FailedPrecondition,
    mekiki.errors.NotFound,
    mekiki.errors.Conflict,
    mekiki.errors.DataLoss,
    mekiki.errors.DeadlineExceeded,
    mekiki.errors.Overloaded,
    mekiki.errors.Internal,
)


class Course(Protocol):
    """What of a job is needed here; see `services.runtime.worker.Job`."""

    def report(self, phase: str, done: int = 0, total: int = 0, **metrics: float) -> None:
        """Says how far it is; raises when it must stop."""

    def save_checkpoint(self, data: bytes) -> None:
        """Keeps bytes to go on from."""

    def load_checkpoint(self) -> bytes | None:
        """Returns what was kept last."""


@dataclass(frozen=True)
class Plan:
    """What was asked for; see AnnotateDatasetRequest."""

    dataset: str
    classifier: str
    manner: Manner
    use_item_labels: bool
    skip_labels: frozenset[str]
    max_pixels: int
    segmenter: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one item: annotated, or left alone, or failed for a reason."""

    item_id: str
    annotated: bool = False
    needs_review: bool = False
    failure: str = ""


@dataclass(frozen=True)
class Tally:
    """What became of the items up to and with `after`, in the order of identifiers."""

    after: str = ""
    annotated: int = 0
    skipped: int = 0
    needs_review: int = 0
    failures: tuple[tuple[str, str], ...] = ()  # (item, reason)

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Self:
        """Reads a checkpoint; an empty tally where there is none."""
        if data is None:
            return cls()
        fields = json.loads(data)
        return cls(**fields | {"failures": tuple((item, reason) for item, reason in fields["failures"])})

    def to_bytes(self) -> bytes:
        """Writes a checkpoint."""
        return json.dumps(asdict(self)).encode()

    def add(self, outcome: Outcome) -> Self:
        """Counts one more item."""
        failures = ((outcome.item_id, outcome.failure),) if outcome.failure else ()
        return replace(
            self,
            annotated=self.annotated + outcome.annotated,
            skipped=self.skipped + (not outcome.annotated and not outcome.failure),
            needs_review=self.needs_review + outcome.needs_review,
            failures=self.failures + failures,
        )


def annotate_items(
    client: mekiki.Client, plan: Plan, items: types_pb2.ItemFilter, window: int, course: Course
) -> Tally:
    """Annotate what `items` selects, `window` items at once, and write each proposal to its item.

    Nothing a person accepted is touched, and a box a person rejected is not proposed again. Going on after a
    checkpoint does at most `CHUNK` items a second time, to the same effect.

    Raises:
        MekikiError: of the SDK: a neighbour cannot be reached, or the model or data set does not exist.
        FailedPrecondition: the calibration was made with another version of the classifier.
    """
    tally = Tally.from_bytes(course.load_checkpoint())
    if plan.segmenter:
        client.saliency.get_segmenter(plan.segmenter)
    else:
        classifier = client.saliency.get_classifier(plan.classifier)
        plan.manner.check_version(mekiki.ModelRef(classifier.name, classifier.version))
    wanted = types_pb2.ItemFilter()
    wanted.CopyFrom(items)
    wanted.form = types_pb2.ITEM_FORM_ORIGINAL
    described = [read.item for read in client.codec.read_items(wanted, metadata_only=True)]
    rest = [item for item in described if item.item_id > tally.after]
    done = len(described) - len(rest)
    with ThreadPoolExecutor(window, thread_name_prefix="annotate") as pool:
        for start in range(0, len(rest), CHUNK):
            chunk = rest[start : start + CHUNK]
            for outcome in _annotate_chunk(client, plan, chunk, pool, window):
                tally, done = tally.add(outcome), done + 1
                course.report(PHASE, done, len(described), failed=len(tally.failures))
            tally = replace(tally, after=chunk[-1].item_id)
            course.save_checkpoint(tally.to_bytes())
    return tally


def _annotate_chunk(
    client: mekiki.Client, plan: Plan, items: Sequence[mekiki.Item], pool: ThreadPoolExecutor, window: int
) -> Iterator[Outcome]:
    """What is left alone is known without pixels; only the others' are read."""
    wanted = [item.item_id for item in items if not is_settled(item) and plan.skip_labels.isdisjoint(item.labels)]
    for item in items:
        if item.item_id not in wanted:
            yield Outcome(item.item_id)
    if wanted:
        reads = client.codec.read_items(mekiki.ItemFilter(plan.dataset, item_ids=wanted))
        yield from map_window(pool, lambda read: _annotate_item(client, plan, read), reads, window)


def map_window(
    pool: ThreadPoolExecutor,
    work: Callable[[mekiki.ReadItem], Result],
    reads: Iterable[mekiki.ReadItem],
    window: int,
) -> Iterator[Result]:
    """Results in order, with no more than `window` items' pixels in memory."""
    working: deque[Future[Result]] = deque()
    for read in reads:
        working.append(pool.submit(work, read))
        if len(working) >= window:
            yield working.popleft().result()
    while working:
        yield working.popleft().result()


def _annotate_item(client: mekiki.Client, plan: Plan, read: mekiki.ReadItem) -> Outcome:
    try:
        proposals = _find_proposals(client, plan, read)
        written = _write_proposals(client, plan.dataset, read.item, proposals)
    except ITEM_ERRORS as error:
        return Outcome(read.item.item_id, failure=str(error))
    needs_review = any(proposal.needs_review for proposal in written)
    return Outcome(read.item.item_id, annotated=bool(written), needs_review=needs_review)


def _find_proposals(client: mekiki.Client, plan: Plan, read: mekiki.ReadItem) -> list[mekiki.Annotation]:
    label = read.item.label if plan.use_item_labels else ""
    if plan.use_item_labels and not label:
        raise InvalidArgument("labels", "the item has no label to look for")
    seen: Seen
    manner = plan.manner
    if plan.segmenter:  # whose masks have edges of their own
        seen = outline(client, plan.segmenter, read.pixels, label)
        manner = replace(manner, use=ForegroundUse.NEVER)
    else:
        seen = explain(client, plan.classifier, read.pixels, label, manner.explain)
    sight = pose_sight(seen, manner, plan.max_pixels, read.pixels)
    if sight is None:
        raise InvalidArgument("image", f"nothing in it speaks for {seen.label!r}")
    return propose(seen, find_boxes(sight), manner)


def _write_proposals(
    client: mekiki.Client, dataset: str, item: mekiki.Item, proposals: Sequence[mekiki.Annotation]
) -> list[mekiki.Annotation]:
    """What was written: nothing where a person was quicker and has accepted a box, and no box that one has rejected."""
    for attempt in range(1, UPDATE_ATTEMPTS + 1):
        wanted = [proposal for proposal in proposals if not is_rejected(item, proposal)]
        if is_settled(item) or not wanted:
            return []
        annotations = replace_proposals(item, wanted)
        try:
            client.codec.update_item(dataset, item.item_id, annotations=annotations, etag=item.etag)
        except mekiki.errors.Conflict:
            if attempt == UPDATE_ATTEMPTS:
                raise
            item = client.codec.get_item(dataset, item.item_id)
        else:
            return wanted
    return []
