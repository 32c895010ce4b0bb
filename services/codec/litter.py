"""What a sweep of data sets must know: which objects the manifests name, and which of them belong together.

How the codec keeps the three promises of `services.runtime.sweep`:

1. Chunks and the segments of appended items have names of their own, and an append that took longer than the grace
   is refused. An encoding is one unit; it is written to every few minutes until the manifest names it, and a successor
   goes on only from notes that are younger than the grace.
2. A chunk that was replaced never comes back, nor does the segment of a mask that was: items and encodings are never
   removed. A segment that a compaction moved everything from comes back only by an append of the same pixels that had
   begun before, which the grace outlasts.
3. The chunks of a version are all read when it is opened. The one version that is opened late is that of an encoder
   that goes on after days: where its chunks are gone, it begins again with the newest version.

What DeleteDataset could not delete, because it was killed or because somebody was still writing, no manifest names.
"""

from collections.abc import Iterator
from functools import partial

from services.codec.catalog import is_alive, locate, read_segments
from services.codec.storage import Body
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.runtime.sweep import Ground

LOG = "log"


def list_grounds(store: Store) -> Iterator[Ground]:
    """Yields the folders of all data sets of the codec's store, deleted ones too."""
    for name in store.folders("datasets"):
        log = ManifestLog(store, f"datasets/{name}/{LOG}", has_copies=True)
        for incarnation in store.folders(f"datasets/{name}"):
            if incarnation != LOG:
                yield Ground(store, locate(name, incarnation), log, partial(_list_named, store, name), _find_unit)


def _find_unit(key: str) -> str:
    """A chunk, a segment (pixels and index), or a whole encoding; without the ending."""
    _, _, _, kind, *_ = parts = key.split("/")
    return "/".join(parts[:5]) if kind == "encodings" else key.rpartition(".")[0]


def _list_named(store: Store, name: str, newest: Body, settled: Body) -> set[str]:
    """Raises DataLoss where a list of items cannot be read.

    Pixels never leave a data set, but a compaction moves them, and masks are replaced: what was named before that stays
    until it is settled.
    """
    chunks = _list_chunks(name, newest) | _list_chunks(name, settled)
    return chunks | _list_segments(store, name, newest, settled)


def _list_chunks(name: str, body: Body) -> set[str]:
    """The chunks and encodings of a version."""
    if not is_alive(body):
        return set()
    folder = locate(name, body["incarnation"])
    encodings = {f"{folder}/encodings/{entry['token']}" for entry in body["encodings"]}
    return {f"{folder}/{key.removesuffix('.json')}" for key in body["chunks"]} | encodings


def _list_segments(store: Store, name: str, *bodies: Body) -> set[str]:
    """The segments that hold the items' pixels. Chunks are not kept: a sweep must not fill the memory."""
    alive = [(locate(name, body["incarnation"]), body["chunks"]) for body in bodies if is_alive(body)]
    lists = {(folder, chunk) for folder, chunks in alive for chunk in chunks}
    return {
        f"{folder}/segments/{segment}"
        for folder, chunk in lists
        for segment in read_segments(store, f"{folder}/{chunk}")
    }
