"""Reads everything of a data set, says what is damaged, and mends what there is a copy of."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from services.codec.ahead import map_ahead
from services.codec.catalog import Snapshot
from services.codec.dataset import Datasets
from services.codec.encoding import Encodings
from services.codec.items import Item, sort_by_place
from services.codec.progress import Progress
from services.codec.reading import OriginalReader
from services.codec.records import EncodedItem, Record
from services.codec.segments import Segments
from services.codec.storage import Store
from services.runtime.errors import DataLoss, NotFound
from services.runtime.sealed import copy_of, unseal


@dataclass(frozen=True)
class Damage:
    """Something that cannot be read as it was written.

    Attributes:
        item_id: the item; empty where no item is lost by it.
        encoding_id: the encoding that it is damaged in; empty for its exact pixels.
        reason: what is wrong.
    """

    item_id: str
    encoding_id: str
    reason: str


@dataclass(frozen=True)
class Findings:
    """What came of reading a version: how many items it has, what is damaged, how many files were mended."""

    version: int
    item_count: int
    damages: tuple[Damage, ...]
    mended_count: int


class Scrubber:
    """Reads data sets from end to end. What it is given should be new: what is kept in memory is not read again.

    Args:
        datasets: which data sets there are.
        encodings: their prepared versions.
        store: where all of it lies.
        progress: is told how far it is.
        threads: items read at once.
    """

    def __init__(
        self, datasets: Datasets, encodings: Encodings, store: Store, progress: Progress, threads: int
    ) -> None:
        self._datasets = datasets
        self._encodings = encodings
        self._store = store
        self._progress = progress
        self._threads = threads

    def scrub(self, name: str) -> Findings:
        """Reads the newest version of a data set.

        Raises:
            NotFound: no such data set.
            DataLoss: a list of items is damaged together with its copy.
            Cancelled: the progress said so.
        """
        snapshot = self._datasets.open(name)
        mended = sum(self._mend(key) for key in self._list_twins(snapshot))
        damages = [*self._read_originals(snapshot)]
        for entry in snapshot.body["encodings"]:
            damages += self._read_encoding(snapshot, entry["encoding_id"])
        return Findings(snapshot.number, len(snapshot.items), tuple(damages), mended)

    def _list_twins(self, snapshot: Snapshot) -> Iterator[str]:
        yield self._datasets.locate_manifest(snapshot)
        for chunk in snapshot.body["chunks"]:
            yield f"{snapshot.folder}/{chunk}"
        for segment in _list_segments(snapshot.items.values()):
            yield f"{snapshot.folder}/segments/{segment}.json"

    def _mend(self, key: str) -> bool:
        """Writes a sealed object that is damaged, or its copy, anew from the other; says whether that was needed."""
        found = {name: self._get(name) for name in (key, copy_of(key))}
        whole = next((data for data in found.values() if _is_whole(data)), None)
        broken = [name for name, data in found.items() if not _is_whole(data)]
        if whole is None or not broken:
            return False
        for name in broken:
            self._store.put(name, whole)
        return True

    def _read_originals(self, snapshot: Snapshot) -> Iterator[Damage]:
        items = sort_by_place(snapshot.items.values())
        reader = OriginalReader(self._datasets, snapshot)

        def read(item: Item) -> Damage | None:
            try:
                reader.read(item)
                self._datasets.read_mask(snapshot, item)
            except DataLoss as error:
                return Damage(item.item_id, "", error.message)
            return None

        for number, damage in enumerate(map_ahead(read, items, self._threads)):
            self._progress.report("reading items", number, len(items))
            if damage is not None:
                yield damage
        yield from self._read_files(self._datasets.segments(snapshot), _list_segments(items), "")

    def _read_encoding(self, snapshot: Snapshot, encoding_id: str) -> Iterator[Damage]:
        try:
            record = self._encodings.find(snapshot, encoding_id)
            items = self._encodings.list_items(snapshot, record)
            self._encodings.read_pictures(snapshot, record)
        except DataLoss as error:
            yield Damage("", encoding_id, error.message)
            return
        yield from self._read_frames(snapshot, record, list(items.values()))

    def _read_frames(self, snapshot: Snapshot, record: Record, items: Sequence[EncodedItem]) -> Iterator[Damage]:
        segments = self._encodings.segments(snapshot, record)
        by_file: dict[str, list[EncodedItem]] = defaultdict(list)
        for item in items:
            by_file[item.place.segment].append(item)
        for number, (file, members) in enumerate(by_file.items()):
            self._progress.report(f"reading frames of {record.encoding_id}", number, len(by_file))
            yield from (Damage(item.item_id, record.encoding_id, reason) for item, reason in _read(segments, members))
            yield from self._read_files(segments, [file], record.encoding_id)

    def _read_files(self, segments: Segments, names: Iterable[str], encoding_id: str) -> Iterator[Damage]:
        """Damage that no item suffers from: what only other programs read of a file."""
        for name in names:
            with suppress(DataLoss):  # then its items were told of
                index = segments.read_index(name)
                if hashlib.sha256(segments.read_file(name)).hexdigest() != index.file_sha256:
                    yield Damage("", encoding_id, f"{index.file} is not as it was written")

    def _get(self, key: str) -> bytes:
        try:
            return self._store.get(key)
        except NotFound:
            return b""


def _is_whole(data: bytes) -> bool:
    try:
        unseal(data)
    except ValueError:
        return False
    return True


def _list_segments(items: Iterable[Item]) -> list[str]:
    places = (place for item in items for place in item.places)
    return sorted({place.segment for place in places})


def _read(segments: Segments, items: Sequence[EncodedItem]) -> Iterator[tuple[EncodedItem, str]]:
    """Yields the items of a file whose frames cannot be read, and why."""
    try:
        video = segments.read_index(items[0].place.segment).video
    except DataLoss as error:
        yield from ((item, error.message) for item in items)
        return
    for gop in () if video is None else video.gops:
        members = [item for item in items if gop.first <= item.place.frame < gop.first + len(gop.sizes)]
        try:
            count = sum(1 for _ in segments.read_gop(items[0].place.segment, gop))
            missing = [item for item in members if item.place.frame - gop.first >= count]
            yield from ((item, f"frame {item.place.frame} is missing") for item in missing)
        except DataLoss as error:
            yield from ((item, error.message) for item in members)
