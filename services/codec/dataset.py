"""Data sets: created, appended to, changed and deleted, each change one new manifest.

    datasets/<name>/log/             the manifests; never removed, so that a name's versions only ever grow
    datasets/<name>/<incarnation>/   segments/ (pixels), items/ (chunks), encodings/ (prepared versions)

Pixels and chunks are written before the manifest that names them: whoever is killed in between leaves the old version,
and some objects that nothing names, which a sweep removes (see `litter`).
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock

from services.codec.catalog import Catalog, Snapshot, is_alive, locate, start_body
from services.codec.changes import (
    Appended,
    Change,
    KeptMask,
    NewItem,
    acknowledge,
    change_item,
    create_items,
    keep_mask,
    name_mask,
    name_masks,
    put_mask,
)
from services.codec.gop_cache import GopCache
from services.codec.items import Content, Item, Pixels, Place, has_shape, hash_pixels
from services.codec.segments import Named, Segments
from services.codec.stills import decode_png
from services.codec.storage import Body, Log, OpenLog, Store
from services.runtime.errors import AlreadyExists, DataLoss, MekikiError, NotFound, Unavailable

GRACE_S = 86_400.0
"""Unless told otherwise, how long what was written may wait for the manifest that names it."""
_SEGMENTS_OPEN = 64


class Datasets:
    """All data sets of a store. Safe to use from several threads, and beside other processes.

    `grace_s` is the sweep's: what was written longer ago is not named any more.
    """

    def __init__(self, store: Store, open_log: OpenLog, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self._store = store
        self._open_log = open_log
        self._catalog = Catalog(store)
        self._logs: dict[str, Log] = {}
        self._segments: dict[str, Segments] = {}
        self._lock = Lock()

    def create(self, name: str) -> Snapshot:
        """Creates an empty data set.

        Raises:
            AlreadyExists: there is one of that name.
        """
        incarnation = secrets.token_hex(8)
        now = time.time()

        def start(body: Body) -> Body:
            if is_alive(body):
                raise AlreadyExists("dataset", name)
            return start_body(incarnation, now)

        return self._catalog.load(name, self._log(name).update(start))

    def open(self, name: str) -> Snapshot:
        """Returns the newest version.

        Raises:
            NotFound: no such data set.
        """
        return self._catalog.load(name, self._log(name).latest())

    def open_version(self, name: str, number: int) -> Snapshot:
        """Returns one version; raises NotFound as `open`."""
        return self._catalog.load(name, self._log(name).read(number))

    def list_names(self) -> list[str]:
        """Returns the names of all data sets, sorted."""
        return [name for name in sorted(self._store.folders("datasets")) if is_alive(self._log(name).latest().body)]

    def delete(self, name: str) -> None:
        """Deletes a data set; its versions' numbers are not used again.

        Raises:
            NotFound: no such data set.
        """
        gone: list[str] = []

        def bury(body: Body) -> Body:
            if not is_alive(body):
                raise NotFound("dataset", name)
            gone[:] = [body["incarnation"]]
            return {"format": body["format"], "deleted": True, "incarnation": body["incarnation"]}

        self._log(name).update(bury)
        for key in self._store.list(locate(name, gone[0])):
            self._store.delete(key)

    def append(self, name: str, new: Sequence[NewItem]) -> list[Appended | MekikiError]:
        """Appends items as one version; what it returns is durable, in the order given.

        An item whose identifier is taken is a duplicate if its pixels are the same, else an AlreadyExists.

        Raises:
            NotFound: no such data set.
            Unavailable: it took so long that a sweep may have begun to take what was written; nothing was appended.
        """
        begun_s = time.time()
        snapshot = self.open(name)
        hashes = [hash_pixels(item.pixels) for item in new]
        fresh: dict[str, Named] = {}
        for item, sha256 in zip(new, hashes, strict=True):
            if item.item_id not in snapshot.items:
                fresh.setdefault(item.item_id, Named(item.item_id, sha256, item.pixels))
        created: dict[str, Item] = {}
        if fresh:
            places, stored = self._write_pixels(snapshot, list(fresh.values()))
            created = create_items(new, fresh, places)
            masks = name_masks(new, created)
            mask_places, mask_bytes = self.segments(snapshot).write_exact(masks)
            for named, place in zip(masks, mask_places, strict=True):
                created[named.item_id] = put_mask(created[named.item_id], keep_mask(named, place))
            snapshot = self._commit_new(snapshot, created, stored + mask_bytes, begun_s)
        return acknowledge(new, hashes, created, snapshot)

    def update(self, name: str, changes: Sequence[Change]) -> list[Item | MekikiError]:
        """Changes items as one version; each is answered by itself, in the order given.

        A change is refused with NotFound where there is no such item, and with Conflict where its etag is out of date.

        Raises:
            NotFound: no such data set.
            Unavailable: as `append`.
        """
        begun_s = time.time()
        snapshot = self.open(name)
        kept = self._write_masks(snapshot, changes)
        answers: list[Item | MekikiError] = []

        def change(newest: Snapshot) -> Body:
            if kept:
                self._check_age(begun_s)
            items = dict(newest.items)
            answers[:] = [change_item(items, one, kept.get(number)) for number, one in enumerate(changes)]
            changed = {answer.item_id: items[answer.item_id] for answer in answers if isinstance(answer, Item)}
            body = self._catalog.replace_items(name, newest.body, changed, [])
            return {**body, "stored_bytes": body["stored_bytes"] + self._measure_change(newest, changed)}

        self.commit(snapshot, change)
        return answers

    def update_each(self, changes: Sequence[tuple[str, Change]]) -> list[Item | Exception]:
        """Updates items of several data sets, given their names; one that fails does not fail the others."""
        answers: dict[int, Item | Exception] = {}
        for name in dict.fromkeys(name for name, _ in changes):
            members = [number for number, (owner, _) in enumerate(changes) if owner == name]
            try:
                answers.update(zip(members, self.update(name, [changes[each][1] for each in members]), strict=True))
            except Exception as error:  # noqa: BLE001 - told to each of them
                answers.update(dict.fromkeys(members, error))
        return [answers[number] for number in range(len(changes))]

    def commit(self, snapshot: Snapshot, change: Callable[[Snapshot], Body]) -> Snapshot:
        """Commits what `change` makes of the newest version of the same incarnation.

        Raises:
            NotFound: the data set was deleted meanwhile.
        """
        log = self._log(snapshot.name)

        def apply(body: Body) -> Body:
            if not is_alive(body) or body["incarnation"] != snapshot.incarnation:
                raise NotFound("dataset", snapshot.name)
            items = self._catalog.list_items(snapshot.name, body)
            return change(Snapshot(snapshot.name, 0, body, items))

        return self._catalog.load(snapshot.name, log.update(apply))

    def move(self, newest: Snapshot, places: Mapping[Content, Place]) -> Body:
        """Returns the body of the next manifest, in which images lie elsewhere.

        Args:
            newest: version.
            places: of images, by their content.
        """
        old = {name: item for name, item in newest.items.items() if item.content in places}
        changed = {name: replace(item, place=places[item.content]) for name, item in old.items()}
        body = self._catalog.replace_items(newest.name, newest.body, changed, [])
        return {**body, "stored_bytes": body["stored_bytes"] + self._measure_change(newest, changed)}

    def locate_manifest(self, snapshot: Snapshot) -> str:
        """Returns the key of a version's manifest."""
        return self._log(snapshot.name).locate(snapshot.number)

    def segments(self, snapshot: Snapshot) -> Segments:
        """Returns the data set's exact pixels."""
        folder = f"{snapshot.folder}/segments"
        with self._lock:
            if folder not in self._segments:
                while len(self._segments) >= _SEGMENTS_OPEN:
                    del self._segments[next(iter(self._segments))]
                self._segments[folder] = Segments(self._store, folder, has_copies=True)
            return self._segments[folder]

    def read_pixels(self, snapshot: Snapshot, item: Item, cache: GopCache | None = None) -> Pixels:
        """Returns an item's pixels, exactly those that were appended; with a cache not to be written to.

        Raises:
            DataLoss: they are damaged; names the item.
        """
        pixels = self._read_exact(snapshot, item, item.place, item.sha256, cache)
        if not has_shape(item, pixels):
            raise DataLoss(f"item {item.item_id!r} of {snapshot.name!r} is damaged: its pixels have another shape")
        return pixels

    def read_mask(self, snapshot: Snapshot, item: Item) -> Pixels | None:
        """Returns an item's mask, grey; None where it has none. Raises DataLoss as `read_pixels`."""
        return None if item.mask is None else self._read_exact(snapshot, item, item.mask, item.mask_sha256)

    def _read_exact(
        self, snapshot: Snapshot, item: Item, place: Place, sha256: str, cache: GopCache | None = None
    ) -> Pixels:
        damaged = f"item {item.item_id!r} of {snapshot.name!r} is damaged"
        try:
            segments = self.segments(snapshot)
            pixels = segments.read_frame(place) if cache is None else cache.read(segments, place)
        except DataLoss as error:
            raise DataLoss(f"{damaged}: {error.message}") from error
        if hash_pixels(pixels) != sha256:
            raise DataLoss(f"{damaged}: its pixels do not match its SHA-256")
        return pixels

    def _write_pixels(self, snapshot: Snapshot, images: Sequence[Named]) -> tuple[list[Place], int]:
        """Returns where each image lies, and the bytes that it took: what lies there already is not written again."""
        unknown = {image.content: image for image in reversed(images)}
        places = {}
        for content in unknown.keys() & snapshot.contents.keys():
            twin = snapshot.contents[content]
            with suppress(DataLoss):  # of a damaged one the new copy is the better one
                self.read_pixels(snapshot, twin)
                places[content] = twin.place
        novel = [image for content, image in unknown.items() if content not in places]
        written, stored = self.segments(snapshot).write_exact(novel)
        places |= {image.content: place for image, place in zip(novel, written, strict=True)}
        return [places[image.content] for image in images], stored

    def _write_masks(self, snapshot: Snapshot, changes: Sequence[Change]) -> dict[int, KeptMask]:
        """Returns what was kept, by number of the change; of those that set or clear a mask."""
        kept = {}
        for number, change in enumerate(changes):
            if change.mask_png is not None:
                kept[number] = KeptMask()
            if change.mask_png:  # one by one: so many pixels need not be in memory together
                named = name_mask(change.item_id, decode_png(change.mask_png))
                [place], _ = self.segments(snapshot).write_exact([named])
                kept[number] = keep_mask(named, place)
        return kept

    def _measure_change(self, newest: Snapshot, changed: Mapping[str, Item]) -> int:
        """Bytes of the segments that items lie in once they are changed, less those that nothing lies in then."""
        if all(item.places == newest.items[name].places for name, item in changed.items()):
            return 0  # as nearly always
        before = {place.segment for item in newest.items.values() for place in item.places}
        after = {place.segment for item in {**newest.items, **changed}.values() for place in item.places}
        sizes = {segment: self._measure_segment(newest, segment) for segment in before ^ after}
        return sum(size if segment in after else -size for segment, size in sizes.items())

    def _measure_segment(self, snapshot: Snapshot, segment: str) -> int:
        with suppress(DataLoss):  # its size is not known then
            return self.segments(snapshot).read_index(segment).stored_bytes
        return 0

    def _check_age(self, begun_s: float) -> None:
        if time.time() - begun_s > self.grace_s:  # not monotonic: a machine that slept counts, too
            raise Unavailable(f"writing took longer than {self.grace_s:g} s; try again")

    def _commit_new(self, snapshot: Snapshot, created: dict[str, Item], stored: int, begun_s: float) -> Snapshot:
        def add(newest: Snapshot) -> Body:
            self._check_age(begun_s)
            added = [item for item in created.values() if item.item_id not in newest.items]
            body = self._catalog.replace_items(newest.name, newest.body, {}, added)
            return {**body, "stored_bytes": body["stored_bytes"] + stored}

        return self.commit(snapshot, add)

    def _log(self, name: str) -> Log:
        with self._lock:
            if name not in self._logs:
                self._logs[name] = self._open_log(f"datasets/{name}/log")
            return self._logs[name]
