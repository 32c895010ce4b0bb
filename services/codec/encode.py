"""Makes the prepared version of a data set, in steps that can be gone on with after the worker was lost.

1. Every image is placed on the reference's canvas, and the masks of those that aligned are united.
2. The images are ordered by likeness, warped, blanked outside the union, and encoded to HEVC, file by file.
3. The record is written, and the next manifest names it.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.codec.ahead import map_ahead
from services.codec.align import Alignment
from services.codec.background import Image, Remover
from services.codec.catalog import Snapshot
from services.codec.dataset import Datasets
from services.codec.encoding import (
    EncodedItem,
    Encodings,
    Options,
    Record,
    Unaligned,
    locate,
    write_items,
    write_pictures,
    write_record,
)
from services.codec.geometry import Mask
from services.codec.items import Item, Pixels, Place
from services.codec.notes import Notes
from services.codec.order import describe
from services.codec.prepare import (
    Blanking,
    Placement,
    Placer,
    Recipe,
    default_margin,
    find_map,
    make_recipe,
    open_reference,
    prepare,
)
from services.codec.segments import Segments
from services.codec.storage import Body, Store
from services.codec.video import encode_lossy
from services.runtime.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound

FILE_FRAMES = 256
"""Frames of one video file, about: what is encoded again at most after a worker was lost."""
CHECKPOINT_EVERY_S = 10.0


class Progress(Protocol):
    """Whom the encoder tells how far it is, and who keeps its notes."""

    def report(self, phase: str, done: int, total: int) -> None:
        """Takes note; raises Cancelled to stop the work."""

    def save(self, notes: bytes) -> None:
        """Keeps the notes for a successor."""

    def load(self) -> bytes | None:
        """Returns a predecessor's notes."""


def fill_options(snapshot: Snapshot, options: Options) -> Options:
    """Returns the options with reference and splits filled in; the margin, unless given (>= 0), comes later.

    Raises:
        FailedPrecondition: the data set, or its reference splits, hold no item.
        NotFound: the reference item does not exist.
    """
    splits = options.reference_splits or (("train",) if "train" in snapshot.body["split_counts"] else ())
    candidates = sorted(item.item_id for item in snapshot.items.values() if not splits or item.split in splits)
    if not candidates:
        where = f"the splits {', '.join(splits)} of " if splits else ""
        raise FailedPrecondition("EMPTY_DATASET", f"{where}data set {snapshot.name!r} hold no item to refer to")
    reference = options.reference_item_id or candidates[0]
    if reference not in snapshot.items:
        raise NotFound("item", reference)
    if options.alignment == "pose" and options.background == "none":
        raise InvalidArgument("options.alignment", "must be AKAZE or NONE where background is NONE, is POSE")
    return replace(options, reference_splits=splits, reference_item_id=reference)


@dataclass(frozen=True, eq=False)
class _Work:
    """What stays the same throughout."""

    snapshot: Snapshot
    options: Options
    remover: Remover | None
    placer: Placer
    folder: str


class Encoder:
    """Encodes data sets.

    Args:
        datasets: where the originals are.
        store: the same store as theirs.
        progress: is told how far it is, and keeps its notes.
        threads: images worked on at once.
        checkpoint_every_s: seconds between two notes.
    """

    def __init__(
        self,
        datasets: Datasets,
        store: Store,
        progress: Progress,
        threads: int,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    ) -> None:
        self._datasets = datasets
        self._store = store
        self._progress = progress
        self._threads = threads
        self._every_s = checkpoint_every_s
        self._saved = time.monotonic()

    def encode(self, name: str, options: Options, remover: Remover | None) -> Record:
        """Returns the new encoding, durable; goes on where the kept notes end, or returns what they led to.

        Args:
            name: of the data set.
            options: with defaults still open; see `fill_options`.
            remover: finds the parts; None where no background is removed.

        Raises:
            NotFound, FailedPrecondition, InvalidArgument: as `fill_options` and `open_reference`.
            Cancelled: the progress said so.
        """
        notes, snapshot = self._recall(self._datasets.open(name))
        if not _is_published(snapshot, notes.token):
            work = self._prepare(snapshot, options, remover, notes.token)
            self._place_all(work, notes)
            blank: Blanking = "union" if options.blank_background else "none"
            recipe = make_recipe(work.placer, notes.union, blank, work.options.mask_margin)
            self._encode_all(work, recipe, notes)
            self._write(work, recipe, notes)
        return self._publish(snapshot, notes.token)

    def _recall(self, newest: Snapshot) -> tuple[Notes, Snapshot]:
        """Returns the notes to go on from and their version; new ones where a sweep may have been there since."""
        kept = self._progress.load()
        if kept is not None:
            notes = Notes.from_bytes(kept)
            if _is_published(newest, notes.token):
                return notes, newest
            if time.time() - notes.saved_s < self._datasets.grace_s:
                with suppress(DataLoss):
                    return notes, self._datasets.open_version(newest.name, notes.version)
        return Notes(newest.number), newest

    def _prepare(self, snapshot: Snapshot, options: Options, remover: Remover | None, token: str) -> _Work:
        options = fill_options(snapshot, options)
        pixels = self._datasets.read_pixels(snapshot, snapshot.items[options.reference_item_id])
        reference = open_reference(pixels, remover)
        if options.mask_margin < 0:
            options = replace(options, mask_margin=default_margin(reference))
        # What was used in the end, not "auto": test images are to be treated alike for ever.
        options = replace(options, background="none" if remover is None else remover.method)
        placer = Placer(reference, options.alignment, remover)
        return _Work(snapshot, options, remover, placer, locate(snapshot, token))

    def _place_all(self, work: _Work, notes: Notes) -> None:
        """Looks at every image that the notes do not know yet."""
        items = work.snapshot.items
        todo = [item for item in items.values() if item.item_id not in {*notes.placed, *notes.unreadable}]
        splits = work.options.reference_splits

        def place(item: Item) -> _Placed | DataLoss:
            try:
                return _place(self._datasets.read_pixels(work.snapshot, item), work.placer)
            except DataLoss as error:
                return error

        for item, placed in zip(todo, map_ahead(place, todo, self._threads), strict=True):
            if isinstance(placed, DataLoss):
                notes.unreadable[item.item_id] = placed.message
            else:
                notes.placed[item.item_id] = (placed.alignment, placed.small)
                if placed.mask is not None and (not splits or item.split in splits):
                    notes.unite(placed.mask)
            self._save(notes)
            self._progress.report("aligning images", notes.seen, len(items))

    def _encode_all(self, work: _Work, recipe: Recipe, notes: Notes) -> None:
        """Writes the files that the notes do not know yet."""
        segments = Segments(self._store, work.folder)
        order = notes.order()
        done = sum(len(names) for _, names in notes.files)
        frames = max(1, FILE_FRAMES // work.options.gop) * work.options.gop

        def draw(name: str) -> Image:
            pixels = self._datasets.read_pixels(work.snapshot, work.snapshot.items[name])
            return prepare(work.placer.convert(pixels), Placement(notes.placed[name][0], None), recipe).image

        while done < len(order):
            run = order[done : done + frames]
            images = self._count(map_ahead(draw, run, self._threads), done, len(order))
            video = encode_lossy(images, work.options.crf, work.options.gop)
            segment = segments.write_video(video, [{"item_id": name} for name in run])
            notes.files.append((segment.segment_id, run))
            notes.stored_bytes += segment.stored_bytes
            done += len(run)
            self._save(notes, now=True)

    def _count(self, frames: Iterable[Image], done: int, total: int) -> Iterator[Image]:
        for number, frame in enumerate(frames, start=done + 1):
            yield frame
            self._progress.report("encoding video", number, total)

    def _write(self, work: _Work, recipe: Recipe, notes: Notes) -> None:
        items = _list_encoded(notes, work.snapshot, recipe)
        stored = notes.stored_bytes + write_pictures(self._store, work.folder, work.placer.reference, recipe.mask)
        stored += write_items(self._store, work.folder, items)
        write_record(self._store, work.folder, _describe(work, recipe, notes, items, stored))

    def _publish(self, snapshot: Snapshot, token: str) -> Record:
        def name_it(newest: Snapshot) -> Body:
            entries = newest.body["encodings"]
            if _is_published(newest, token):
                return newest.body
            entry = {"encoding_id": f"prepared-{len(entries) + 1}", "token": token}
            return {**newest.body, "encodings": [*entries, entry]}

        newest = self._datasets.open(snapshot.name)
        if not _is_published(newest, token):
            newest = self._datasets.commit(snapshot, name_it)
        published = next(entry for entry in newest.body["encodings"] if entry["token"] == token)
        return Encodings(self._store).find(newest, published["encoding_id"])

    def _save(self, notes: Notes, *, now: bool = False) -> None:
        if now or time.monotonic() - self._saved >= self._every_s:
            self._progress.save(notes.to_bytes())
            self._saved = time.monotonic()


@dataclass(frozen=True, eq=False)
class _Placed:
    """An image as it lies on the canvas: its alignment, its small picture, its mask there."""

    alignment: Alignment
    small: NDArray[np.uint8]
    mask: Mask | None


def _place(pixels: Pixels, placer: Placer) -> _Placed:
    image = placer.convert(pixels)
    placement = placer.place(image)
    small = describe(image, placement.alignment.affine, placer.canvas_width, placer.canvas_height)
    return _Placed(placement.alignment, small, placer.draw_mask(placement))


def _is_published(snapshot: Snapshot, token: str) -> bool:
    return any(entry["token"] == token for entry in snapshot.body["encodings"])


def _describe(work: _Work, recipe: Recipe, notes: Notes, items: list[EncodedItem], stored_bytes: int) -> Record:
    unaligned = [Unaligned(item.item_id, item.reason) for item in items if not item.aligned]
    unaligned += [Unaligned(name, reason) for name, reason in notes.unreadable.items()]
    remover = work.remover
    return Record(
        encoding_id="",
        token="",
        options=work.options,
        background_description="No background removed, as asked." if remover is None else remover.description,
        dataset_version=notes.version,
        item_count=len(items),
        unaligned=tuple(sorted(unaligned, key=lambda item: item.item_id)),
        stored_bytes=stored_bytes,
        width=recipe.width,
        height=recipe.height,
        frame=tuple(float(value) for value in recipe.frame.ravel()),
        fill=recipe.fill,
        bits=work.placer.reference.bits,
        masked=recipe.mask is not None,
        create_time_s=time.time(),
    )


def _list_encoded(notes: Notes, snapshot: Snapshot, recipe: Recipe) -> list[EncodedItem]:
    items = []
    for segment_id, names in notes.files:
        for frame, name in enumerate(names):
            item = snapshot.items[name]
            found = find_map(notes.placed[name][0], item.width, item.height, recipe)
            flat = tuple(float(value) for value in found.affine.ravel())
            items.append(EncodedItem(name, Place(segment_id, frame), flat, found.aligned, found.score, found.reason))
    return items
