"""The normal items of a detector: immutable segments in the store, a numbered manifest that says which of them count.

A version of the bank is a number of the manifest. Enrolling writes a segment, then commits the manifest that names it,
and only then is it acknowledged; whoever loses the race for a number reads the winner's manifest and tries again.
Searches read one frozen `Snapshot`, which writers replace and never change. What takes long, merging large segments and
building their index, is `compact`'s, beside the writers. A segment holds items of one category alone.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from services.anomaly.census import Manifest, describe_bank
from services.anomaly.compaction import SIZES, Sizes, find_stale, is_large, is_mergeable
from services.anomaly.engines.engine import Embedding, Layout
from services.anomaly.inverted import Inverted, invert
from services.anomaly.rows import Rows
from services.anomaly.segment import Segment
from services.anomaly.segment_file import read_segment, write_segment
from services.anomaly.snapshot import Snapshot
from services.runtime.errors import Conflict, DataLoss, FailedPrecondition, MekikiError, NotFound

MAX_CATEGORIES = 100
"""Of one bank: each is searched for an image of unknown category, and has figures of its own."""


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

    `prepare` makes ready what judging by a category needs, before the version that has it is shown.
    """

    def __init__(
        self,
        store: Store,
        log: ManifestLog,
        layout: Layout,
        prepare: Callable[[Snapshot], None] = lambda _: None,
        sizes: Sizes = SIZES,
    ) -> None:
        self._prepare = prepare
        self._store = store
        self._log = log
        self._layout = layout
        self._sizes = sizes
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

    def enroll(self, contributions: Sequence[tuple[str, str, Embedding]]) -> Change:
        """Add items: id, category, embedding; an id that is enrolled stays as and where it is. Durable on return.

        Raises:
            FailedPrecondition: TOO_MANY_CATEGORIES.
        """
        given = {item: (category, embedding) for item, category, embedding in contributions}
        with self._writing:
            while True:
                known = self._follow().items
                new = {item: placed for item, placed in given.items() if item not in known}
                if not new or self._commit_rows(self._sort(new)):
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

    def compact(self) -> bool:
        """Write again the next segments that `find_stale` finds; True where that is now the newest version.

        Whoever enrolls or forgets meanwhile waits for no more than the commit. Of several who do the same, one wins.
        """
        then = self._snapshot
        stale = find_stale(then, self._layout, self._sizes)
        if not stale:
            return False
        rows = Rows.join([then.live_rows(segment) for segment in stale])
        inverted = invert(rows) if is_large(rows, self._layout, self._sizes) else None
        made = (self._write_segment(rows, stale[0].category, inverted),) if rows.items else ()
        with self._writing:
            while set(stale) <= set(self._follow().segments):
                if self._commit(self._replace(then, stale, made)):
                    return True
        self._discard_unnamed(made)
        return False

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
            loaded.get(entry["key"]) or self._read_segment(entry["key"], entry["sha256"], entry.get("category", ""))
            for entry in manifest.body.get("segments", [])
        )
        forgotten = {key: frozenset(items) for key, items in manifest.body.get("forgotten", {}).items()}
        return Snapshot(manifest.number, segments, forgotten)

    def _read_segment(self, key: str, sha256: str, category: str) -> Segment:
        rows, inverted = read_segment(self._store.get(key), sha256)
        return Segment(key, sha256, rows, self._layout, inverted, category)

    def _write_segment(self, rows: Rows, category: str, inverted: Inverted | None = None) -> Segment:
        data = write_segment(rows, inverted)
        key, sha256 = f"segments/{uuid.uuid4().hex}", hashlib.sha256(data).hexdigest()
        segment = Segment(key, sha256, rows, self._layout, inverted, category)
        self._store.create(key, data)
        return segment

    def _sort(self, new: Mapping[str, tuple[str, Embedding]]) -> dict[str, Rows]:
        """The rows of new items by category."""
        names = sorted({category for category, _ in new.values()})
        if len({*self._snapshot.categories, *names}) > MAX_CATEGORIES:
            has = f"has {len(self._snapshot.categories)}, and {len(names)} were given"
            raise FailedPrecondition(
                "TOO_MANY_CATEGORIES", f"a detector has at most {MAX_CATEGORIES} categories: this one {has}"
            )
        return {
            name: Rows.of((item, embedding) for item, (category, embedding) in new.items() if category == name)
            for name in names
        }

    def _commit_rows(self, added: Mapping[str, Rows]) -> bool:
        """Add rows by category, all in one version.

        They are merged with the last segments of it as long as those are small and not larger (Bentley and Saxe 1980).
        """
        now = self._snapshot
        kept, made = list(now.segments), []
        for category, rows in added.items():
            joined = rows
            for segment in reversed(now.of(category).segments):
                if not is_mergeable(segment, joined, self._sizes):
                    break
                joined = Rows.join([now.live_rows(segment), joined])
                kept.remove(segment)
            made.append(self._write_segment(joined, category))
        done = self._commit(Snapshot(now.version, (*kept, *made), now.forgotten))
        if not done:
            self._discard_unnamed(made)
        return done

    def _commit_forgotten(self, gone: AbstractSet[str]) -> bool:
        """Bar items from now on; their rows leave the store with the segment, or when that is written again."""
        now = self._snapshot
        forgotten = {s.key: now.gone(s) | (frozenset(s.rows.items) & gone) for s in now.segments}
        left = tuple(segment for segment in now.segments if len(forgotten[segment.key]) < len(segment.rows.items))
        return self._commit(Snapshot(now.version, left, forgotten))

    def _replace(self, then: Snapshot, stale: Sequence[Segment], made: Sequence[Segment]) -> Snapshot:
        """The newest version with the rows of segments, as they counted `then`, in another: its items stay the same."""
        now = self._snapshot
        first = now.segments.index(stale[0])
        others = [segment for segment in now.segments if segment not in stale]
        late = frozenset(item for segment in stale for item in now.gone(segment) - then.gone(segment))
        barred = {segment.key: late for segment in made}
        return replace(now, segments=(*others[:first], *made, *others[first:]), forgotten={**now.forgotten, **barred})

    def _commit(self, changed: Snapshot) -> bool:
        """Make what was changed in the newest version the next one; False when somebody else was first."""
        before = self._snapshot.segments
        named = {segment.key for segment in changed.segments}
        still = {key: items for key, items in changed.forgotten.items() if key in named and items}
        following = replace(changed, version=self._snapshot.version + 1, forgotten=still)
        try:
            self._log.commit(following.version, describe_bank(following))
        except Conflict:
            return False
        self._show(following)
        self._discard(segment.key for segment in before if segment.key not in named)
        return True

    def _show(self, snapshot: Snapshot) -> None:
        snapshot.keep_memory(self._snapshot)
        for category in snapshot.categories:
            self._prepare(snapshot.of(category))
        self._snapshot = snapshot

    def _discard_unnamed(self, made: Sequence[Segment]) -> None:
        """After a lost race. The commit may have been ours, its answer lost and sent again: then they are in use."""
        named = {entry["key"] for entry in self._log.latest().body.get("segments", [])}
        self._discard(segment.key for segment in made if segment.key not in named)

    def _discard(self, keys: Iterable[str]) -> None:
        for key in keys:
            with suppress(MekikiError):  # an object that no manifest names does no harm
                self._store.delete(key)
