"""The normal items of a detector: immutable segments in the store, a numbered manifest that says which of them count.

A version of the bank is a number of the manifest. Enrolling writes a segment, then commits the manifest that names it,
and only then is it acknowledged; whoever loses the race for a number reads the winner's manifest and tries again.
Searches read one frozen `Snapshot`, which writers replace and never change.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from services.anomaly.engines.engine import Embedding, Layout
from services.anomaly.segment import Rows, Segment
from services.anomaly.snapshot import Snapshot
from services.runtime.errors import Conflict, DataLoss, MekikiError, NotFound

# A merge writes both segments again; beyond this size the search through one more segment is cheaper.
_LARGEST_MERGE_BYTES = 256 << 20
_FORGOTTEN_SHARE = 0.25  # beyond it a segment is written anew without the forgotten items


class Store(Protocol):
    """Immutable objects; `services.runtime.store.Store` is one."""

    def get(self, key: str) -> bytes:
        """The object. Raises NotFound."""
        ...

    def create(self, key: str, data: bytes) -> object:
        """Write the object, durable on return. Raises AlreadyExists."""
        ...

    def delete(self, key: str) -> object:
        """Delete the object, if it is there."""
        ...


class Manifest(Protocol):
    """One numbered state."""

    @property
    def number(self) -> int:
        """0 where nothing was committed yet."""
        ...

    @property
    def body(self) -> dict[str, Any]:
        """What was committed."""
        ...


class ManifestLog(Protocol):
    """A log of numbered states, each written once; `services.runtime.manifest.ManifestLog` is one."""

    def latest(self) -> Manifest:
        """The state with the highest number."""
        ...

    def commit(self, number: int, body: dict[str, Any]) -> object:
        """Write state `number`, durable on return. Raises Conflict where somebody else wrote it."""
        ...


@dataclass(frozen=True)
class Change:
    """What an acknowledged change did."""

    version: int  # of the bank that has it
    changed: tuple[str, ...]  # the items it enrolled or forgot
    unchanged: tuple[str, ...]  # those that were enrolled, or unknown, already


class Bank:
    """The bank of one detector. Searching never waits: take `snapshot` and search that.

    `prepare` makes ready what judging by a version needs, before that version is shown.
    """

    def __init__(
        self, store: Store, log: ManifestLog, layout: Layout, prepare: Callable[[Snapshot], None] = lambda _: None
    ) -> None:
        self._prepare = prepare
        self._store = store
        self._log = log
        self._layout = layout
        self._writing = threading.Lock()
        self._snapshot = Snapshot(version=0)
        self.refresh()

    @property
    def snapshot(self) -> Snapshot:
        """The newest version that this process knows."""
        return self._snapshot

    def refresh(self) -> Snapshot:
        """Follow what other writers have committed since; does not wait for a writer of this process, who follows too.

        Raises:
            DataLoss: a segment is damaged or gone.
        """
        if self._writing.acquire(blocking=False):
            try:
                self._follow()
            finally:
                self._writing.release()
        return self._snapshot

    def enroll(self, contributions: Sequence[tuple[str, Embedding]]) -> Change:
        """Add items by id; an id that is enrolled already stays as it is. Durable on return."""
        given = dict(contributions)
        with self._writing:
            while True:
                known = self._follow().items
                new = {item: embedding for item, embedding in given.items() if item not in known}
                if not new or self._commit_rows(Rows.of(new.items())):
                    break
        return Change(self._snapshot.version, tuple(sorted(new)), tuple(sorted(given.keys() - new.keys())))

    def forget(self, items: Iterable[str]) -> Change:
        """Remove items by id: from this version on no score depends on them. Durable on return."""
        given = set(items)
        with self._writing:
            while True:
                gone = given & self._follow().items
                if not gone or self._commit_forgotten(gone):
                    break
        return Change(self._snapshot.version, tuple(sorted(gone)), tuple(sorted(given - gone)))

    def _follow(self) -> Snapshot:
        manifest = self._log.latest()
        while manifest.number != self._snapshot.version:
            try:
                self._show(self._load(manifest))
            except NotFound as error:  # a segment was merged away after this manifest was read
                newer = self._log.latest()
                if newer.number == manifest.number:
                    raise DataLoss(f"version {manifest.number} of the bank names a segment that is gone") from error
                manifest = newer
        return self._snapshot

    def _load(self, manifest: Manifest) -> Snapshot:
        loaded = {segment.key: segment for segment in self._snapshot.segments}
        segments = tuple(
            loaded.get(entry["key"]) or self._read_segment(entry["key"], entry["sha256"])
            for entry in manifest.body.get("segments", [])
        )
        forgotten = {key: frozenset(items) for key, items in manifest.body.get("forgotten", {}).items()}
        return Snapshot(manifest.number, segments, forgotten)

    def _read_segment(self, key: str, sha256: str) -> Segment:
        return Segment(key, sha256, Rows.from_bytes(self._store.get(key), sha256), self._layout)

    def _write_segment(self, rows: Rows) -> Segment:
        data = rows.to_bytes()
        segment = Segment(f"segments/{uuid.uuid4().hex}", hashlib.sha256(data).hexdigest(), rows, self._layout)
        self._store.create(segment.key, data)
        return segment

    def _commit_rows(self, rows: Rows) -> bool:
        """Add rows, merged with the last segments as long as those are not larger (Bentley and Saxe 1980).

        So there are about log2(n) segments, and a row is written again about log2(n) times in its life.
        """
        now = self._snapshot
        kept = list(now.segments)
        while kept and _mergeable(kept[-1].rows, rows):
            rows = Rows.join([now.live_rows(kept.pop()), rows])
        return self._commit_segments((*kept, self._write_segment(rows)), now.forgotten)

    def _commit_forgotten(self, gone: AbstractSet[str]) -> bool:
        now = self._snapshot
        forgotten = {
            segment.key: now.forgotten.get(segment.key, frozenset()) | (frozenset(segment.rows.items) & gone)
            for segment in now.segments
        }
        after = Snapshot(now.version, now.segments, forgotten)
        segments = [self._purge(after, segment) for segment in now.segments]
        return self._commit_segments(tuple(segment for segment in segments if segment is not None), forgotten)

    def _purge(self, snapshot: Snapshot, segment: Segment) -> Segment | None:
        """The segment without its forgotten rows once they are many, None when nothing is left of it."""
        if len(snapshot.forgotten[segment.key]) < _FORGOTTEN_SHARE * len(segment.rows.items):
            return segment
        rows = snapshot.live_rows(segment)
        return self._write_segment(rows) if rows.items else None

    def _commit_segments(self, segments: tuple[Segment, ...], forgotten: Mapping[str, frozenset[str]]) -> bool:
        """Make `segments` the next version; False, with nothing left behind, when somebody else was first."""
        before = {segment.key for segment in self._snapshot.segments}
        after = {segment.key for segment in segments}
        still = {key: frozenset(items) for key, items in forgotten.items() if key in after and items}
        following = Snapshot(self._snapshot.version + 1, segments, still)
        try:
            self._log.commit(following.version, _describe(following))
        except Conflict:
            # The commit may have been ours, its answer lost and sent again by the client: then the segments are in use.
            named = {entry["key"] for entry in self._log.latest().body.get("segments", [])}
            self._discard(after - before - named)
            return False
        self._show(following)
        self._discard(before - after)
        return True

    def _show(self, snapshot: Snapshot) -> None:
        if snapshot.items:
            self._prepare(snapshot)
        self._snapshot = snapshot

    def _discard(self, keys: AbstractSet[str]) -> None:
        for key in keys:
            with suppress(MekikiError):  # an object that no manifest names does no harm
                self._store.delete(key)


def _mergeable(last: Rows, added: Rows) -> bool:
    joined_bytes = last.vectors.nbytes + added.vectors.nbytes
    return len(last.items) <= len(added.items) and joined_bytes <= _LARGEST_MERGE_BYTES


@dataclass(frozen=True)
class Census:
    """What a manifest says of a bank without any segment being read."""

    version: int
    items: int
    vectors: int


def read_census(log: ManifestLog) -> Census:
    """Count the newest version of a bank."""
    manifest = log.latest()
    return Census(manifest.number, manifest.body.get("items", 0), manifest.body.get("vectors", 0))


def _describe(snapshot: Snapshot) -> dict[str, Any]:
    live = [snapshot.live_rows(segment) for segment in snapshot.segments]
    return {
        "items": sum(len(rows.items) for rows in live),
        "vectors": sum(len(rows.vectors) for rows in live),
        "segments": [{"key": segment.key, "sha256": segment.sha256} for segment in snapshot.segments],
        "forgotten": {key: sorted(items) for key, items in snapshot.forgotten.items()},
    }
