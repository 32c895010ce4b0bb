"""What a data set holds: a manifest that names chunks of items, copied on write.

Manifests stay small (one line a chunk of 128 items), so that changing an item of ten thousand writes one chunk and one
manifest. Chunks never change, so a reader of an older manifest is never disturbed; each has a name of its own, by which
only the manifests know it that its writer made, so that one which none of them names any more can be swept.
"""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from services.codec.items import Content, Item, from_json, to_json
from services.codec.storage import Body, Manifest, Store, create_twice
from services.runtime.errors import DataLoss, NotFound
from services.runtime.sealed import read_sealed

FORMAT = 1
CHUNK_ITEMS = 128
_CHUNKS_KEPT = 1024
_SNAPSHOTS_KEPT = 16


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One version of a data set.

    Attributes:
        name: of the data set.
        number: of the manifest.
        body: what the manifest says.
        items: by identifier, in the order in which they were appended.
    """

    name: str
    number: int
    body: Body
    items: Mapping[str, Item]

    @property
    def incarnation(self) -> str:
        """Differs between a data set and one of the same name that was deleted before it."""
        return str(self.body["incarnation"])

    @cached_property
    def contents(self) -> Mapping[Content, Item]:
        """An item for each of the images that it holds, however many items share one."""
        return {item.content: item for item in self.items.values()}

    @property
    def folder(self) -> str:
        """Where its objects lie."""
        return locate(self.name, self.incarnation)


def locate(name: str, incarnation: str) -> str:
    """Returns the folder of a data set's objects."""
    return f"datasets/{name}/{incarnation}"


def is_alive(body: Body) -> bool:
    """Whether a manifest's body is of a data set that exists."""
    return bool(body) and not body.get("deleted", False)


def start_body(incarnation: str, create_time_s: float) -> Body:
    """Returns the first manifest's body, of an empty data set."""
    return {
        "format": FORMAT,
        "incarnation": incarnation,
        "create_time_s": create_time_s,
        "stored_bytes": 0,
        "chunks": [],
        "encodings": [],
        **_count([]),
    }


class Catalog:
    """Reads and writes the items of manifests. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chunks: OrderedDict[str, tuple[Item, ...]] = OrderedDict()
        self._snapshots: OrderedDict[tuple[str, int], Snapshot] = OrderedDict()
        self._lock = Lock()

    def load(self, name: str, manifest: Manifest) -> Snapshot:
        """Returns the version that a manifest describes.

        Raises:
            NotFound: the data set was deleted or never created.
            DataLoss: the manifest or a chunk is damaged.
        """
        if not is_alive(manifest.body):
            raise NotFound("dataset", name)
        with self._lock:
            kept = self._snapshots.get((name, manifest.number))
        if kept is not None and kept.body["incarnation"] == manifest.body["incarnation"]:
            return kept
        snapshot = Snapshot(name, manifest.number, manifest.body, self.list_items(name, manifest.body))
        with self._lock:
            self._snapshots[name, manifest.number] = snapshot
            while len(self._snapshots) > _SNAPSHOTS_KEPT:
                self._snapshots.popitem(last=False)
        return snapshot

    def list_items(self, name: str, body: Body) -> dict[str, Item]:
        """Returns a manifest's items by identifier, in the order in which they were appended."""
        folder = locate(name, body["incarnation"])
        items = {}
        for key in body["chunks"]:
            items.update({item.item_id: item for item in self._read(f"{folder}/{key}")})
        return items

    def replace_items(self, name: str, body: Body, changed: Mapping[str, Item], added: Sequence[Item]) -> Body:
        """Writes the chunks that change and returns the body of the next manifest."""
        folder = locate(name, body["incarnation"])
        old = [self._read(f"{folder}/{key}") for key in body["chunks"]]
        new = [_replace(chunk, changed) for chunk in old]
        if added and new and len(new[-1]) < CHUNK_ITEMS:
            room = CHUNK_ITEMS - len(new[-1])
            new[-1] += tuple(added[:room])
            added = added[room:]
        new += [tuple(added[start : start + CHUNK_ITEMS]) for start in range(0, len(added), CHUNK_ITEMS)]
        keys = list(body["chunks"])
        for number, chunk in enumerate(new):
            if number >= len(old) or chunk is not old[number]:
                keys[number:] = [self._write(folder, chunk), *keys[number + 1 :]]
        return {**body, "chunks": keys, **_count(item for chunk in new for item in chunk)}

    def _read(self, key: str) -> tuple[Item, ...]:
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
        chunk = read_chunk(self._store, key)
        self._keep(key, chunk)
        return chunk

    def _write(self, folder: str, chunk: tuple[Item, ...]) -> str:
        name = f"items/{secrets.token_hex(20)}.json"
        create_twice(self._store, f"{folder}/{name}", {"format": FORMAT, "items": [to_json(item) for item in chunk]})
        self._keep(f"{folder}/{name}", chunk)
        return name

    def _keep(self, key: str, chunk: tuple[Item, ...]) -> None:
        with self._lock:
            self._chunks[key] = chunk
            while len(self._chunks) > _CHUNKS_KEPT:
                self._chunks.popitem(last=False)


def _replace(chunk: tuple[Item, ...], changed: Mapping[str, Item]) -> tuple[Item, ...]:
    """Returns the very same chunk where nothing changes."""
    if changed.keys().isdisjoint(item.item_id for item in chunk):
        return chunk
    return tuple(changed.get(item.item_id, item) for item in chunk)


def read_chunk(store: Store, key: str) -> tuple[Item, ...]:
    """Returns the items of a chunk; raises DataLoss where it is damaged or gone."""
    with _damage_named(key):
        return tuple(from_json(value) for value in read_sealed(store.get, key)["items"])


def read_segments(store: Store, key: str) -> set[str]:
    """Returns the segments that a chunk's items lie in, five times as fast as all of it; raises as `read_chunk`."""
    with _damage_named(key):
        items = read_sealed(store.get, key)["items"]
        places = (place for value in items for place in (value["place"], value.get("mask")))
        return {place["segment"] for place in places if place}


@contextmanager
def _damage_named(key: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"the list of items {key} is damaged or gone") from error


def _count(items: Iterable[Item]) -> Body:
    items = list(items)
    return {
        "item_count": len(items),
        "original_bytes": sum(item.original_bytes for item in items),
        "label_counts": dict(Counter(label for item in items for label in dict.fromkeys(item.labels))),
        "split_counts": dict(Counter(item.split for item in items)),
    }
