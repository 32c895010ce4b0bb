"""Makes the prepared version of a data set, in steps that can be gone on with after the worker was lost.

1. The items are grouped into categories of parts, and a reference is chosen for each.
2. Every image is placed on its reference's canvas, and the masks of those that aligned are united.
3. The images are ordered by likeness, warped, blanked outside the union, and encoded to HEVC, file by file.
4. The record is written, and the next manifest names it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from services.codec.ahead import map_ahead
from services.codec.background import Image, Remover
from services.codec.catalog import Snapshot
from services.codec.categories import Sorter
from services.codec.chroma import choose_chroma, find_chroma_loss
from services.codec.dataset import Datasets
from services.codec.encoding import Encodings, locate, write_items, write_pictures, write_record
from services.codec.geometry import Mask
from services.codec.grouping import Grouper
from services.codec.items import Item, sort_by_place
from services.codec.notes import Notes, Placed
from services.codec.options import Options, fill_options
from services.codec.prepare import Placement, Recipe, prepare, widen
from services.codec.progress import Progress
from services.codec.reading import OriginalReader
from services.codec.records import EncodedItem, Kind, Record, Unaligned
from services.codec.segments import Segments
from services.codec.storage import Body, Store
from services.codec.video import Video
from services.codec.video_encode import encode_lossy
from services.codec.work import Work, check_part, choose_margin, draw_given, find_category, make_recipes, place_image
from services.runtime.errors import DataLoss, FailedPrecondition, Unavailable
from services.runtime.logs import get_logger

FILE_FRAMES = 256
"""Frames of one video file, about: what is encoded again at most after a worker was lost."""
CHECKPOINT_EVERY_S = 10.0
_ENCODER_TRIES = 3


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
            work = self._prepare(snapshot, options, remover, notes)
            self._place_all(work, notes)
            recipes = make_recipes(work, notes)
            self._encode_all(work, recipes, notes)
            self._write(work, recipes, notes)
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

    def _prepare(self, snapshot: Snapshot, options: Options, remover: Remover | None, notes: Notes) -> Work:
        # What was used in the end, not "auto": test images are to be treated alike for ever.
        background = "none" if remover is None else remover.method
        options = replace(fill_options(snapshot, options), background=background)
        grouper = Grouper(self._datasets, snapshot, options, remover, self._threads)
        if notes.categories is None:
            notes.categories = grouper.group(self._progress)
            self._save(notes)
        placers = {category.name: grouper.open_placer(category) for category in notes.categories}
        if options.categories == "one":
            [category] = notes.categories
            margin = choose_margin(options, placers[category.name])
            options = replace(options, reference_item_id=category.reference_item_id, mask_margin=margin)
        reader = OriginalReader(self._datasets, snapshot)
        if notes.chroma_loss is None:
            notes.chroma_loss = find_chroma_loss(reader.read, snapshot.items.values())
        options = replace(options, chroma=choose_chroma(options.chroma, options.codec, notes.chroma_loss))
        given = draw_given(options, next(iter(placers.values())))
        return Work(snapshot, options, remover, Sorter(placers), reader, locate(snapshot, notes.token), given)

    def _place_all(self, work: Work, notes: Notes) -> None:
        """Looks at every image that the notes do not know yet."""
        todo = sort_by_place(item for item in work.snapshot.items.values() if not notes.has_seen(item.item_id))
        splits = work.options.reference_splits
        kept = None if work.given is None else widen(work.given, work.options.mask_margin)

        def place(item: Item) -> tuple[Placed, Mask | None] | DataLoss:
            try:
                return place_image(work.originals.read(item).pixels, find_category(work, item), work.sorter)
            except DataLoss as error:
                return error

        for item, placed in zip(todo, map_ahead(place, todo, self._threads), strict=True):
            if isinstance(placed, DataLoss):
                notes.unreadable[item.item_id] = placed.message
            else:
                notes.placed[item.item_id], mask = placed
                if mask is not None and kept is not None:
                    check_part(item.item_id, mask, kept)
                elif mask is not None and (not splits or item.split in splits):
                    notes.unite(placed[0].category, mask)
            self._save(notes)
            self._progress.report("aligning images", notes.seen, len(work.snapshot.items))
        if not notes.placed:
            raise FailedPrecondition("EMPTY_DATASET", "no item of the data set can be read")

    def _encode_all(self, work: Work, recipes: Mapping[str, Recipe], notes: Notes) -> None:
        """Writes the files that the notes do not know yet."""
        segments = Segments(self._store, work.folder)
        length = max(1, FILE_FRAMES // work.options.gop) * work.options.gop
        runs = [run for name in recipes for run in _cut(notes.order(name), length)]
        done = sum(len(names) for _, names in notes.files)

        def draw(name: str) -> Image:
            placed = notes.placed[name]
            pixels = work.originals.read_named(name).pixels
            image = work.sorter.placers[placed.category].convert(pixels)
            return prepare(image, Placement(placed.alignment, None), recipes[placed.category]).image

        for run in runs[len(notes.files) :]:
            frames = partial(map_ahead, draw, run, self._threads)
            video = self._encode(work.options, frames, done, len(notes.placed))
            segment = segments.write_video(video, [])
            notes.files.append((segment.segment_id, run))
            notes.stored_bytes += segment.stored_bytes
            done += len(run)
            self._save(notes, now=True)

    def _encode(self, options: Options, draw: Callable[[], Iterator[Image]], done: int, total: int) -> Video:
        """Encodes a run of frames; again where the encoder fails, which was seen once in some hundred runs."""
        for _ in range(_ENCODER_TRIES - 1):
            try:
                return encode_lossy(self._count(draw(), done, total), options.rate)
            except Unavailable as error:
                get_logger().warning("encoding again", reason=error.message)
        return encode_lossy(self._count(draw(), done, total), options.rate)

    def _count(self, frames: Iterable[Image], done: int, total: int) -> Iterator[Image]:
        for number, frame in enumerate(frames, start=done + 1):
            yield frame
            self._progress.report("encoding video", number, total)

    def _write(self, work: Work, recipes: Mapping[str, Recipe], notes: Notes) -> None:
        items = notes.list_encoded(work.snapshot.items, recipes)
        stored = notes.stored_bytes
        pictures = {}
        for number, (name, recipe) in enumerate(recipes.items(), start=1):
            masks = {"part": work.sorter.placers[name].reference.mask, "mask": recipe.mask}
            drawn = {kind: mask for kind, mask in masks.items() if mask is not None}
            pictures[name], size = write_pictures(self._store, work.folder, number, drawn)
            stored += size
        digest, size = write_items(self._store, work.folder, items)
        record = _describe(work, recipes, notes, pictures, items)
        write_record(self._store, work.folder, replace(record, stored_bytes=stored + size, items_sha256=digest))

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
        return Encodings(self._store, self._datasets).find(newest, published["encoding_id"])

    def _save(self, notes: Notes, *, now: bool = False) -> None:
        if now or time.monotonic() - self._saved >= self._every_s:
            self._progress.save(notes.to_bytes())
            self._saved = time.monotonic()


def _cut(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _is_published(snapshot: Snapshot, token: str) -> bool:
    return any(entry["token"] == token for entry in snapshot.body["encodings"])


def _describe(
    work: Work,
    recipes: Mapping[str, Recipe],
    notes: Notes,
    pictures: Mapping[str, dict[str, str]],
    items: list[EncodedItem],
) -> Record:
    """Returns the record, without what is known once the items are written."""
    unaligned = [Unaligned(item.item_id, item.reason) for item in items if not item.aligned]
    unaligned += [Unaligned(name, reason) for name, reason in notes.unreadable.items()]
    counts = Counter(item.category for item in items)
    known = {category.name: category for category in notes.categories or ()}
    remover = work.remover
    return Record(
        encoding_id="",
        token="",
        options=work.options,
        background_description="No background removed, as asked." if remover is None else remover.description,
        dataset_version=notes.version,
        item_count=len(items),
        unaligned=tuple(sorted(unaligned, key=lambda item: item.item_id)),
        stored_bytes=0,
        items_sha256="",
        categories=tuple(
            Kind(
                category=known[name],
                item_count=counts[name],
                width=recipe.width,
                height=recipe.height,
                frame=tuple(float(value) for value in recipe.frame.ravel()),
                fill=recipe.fill,
                bits=work.sorter.placers[name].reference.bits,
                pictures=pictures[name],
            )
            for name, recipe in recipes.items()
        ),
        create_time_s=time.time(),
        chroma_loss=notes.chroma_loss or 0.0,
    )
