"""What a sweep of detectors must know: which objects the manifests name, and which of them belong together.

How the service keeps the three promises of `services.runtime.sweep`:

1. A version's folder and a segment of a bank have random names, and a manifest names them as soon as they are written.
2. A version that was deleted and a segment that was merged away never come back.
3. A detector is loaded whole; who follows a bank and finds a segment gone reads the newer manifest.

A version that no catalogue names, because its training or its deletion was killed, goes with its bank.
"""

from collections.abc import Iterator

from services.anomaly.entries import View
from services.runtime.manifest import Body, ManifestLog
from services.runtime.store import Store
from services.runtime.sweep import Ground


def list_grounds(store: Store) -> Iterator[Ground]:
    """Yields the folder of all versions in the service's store, then the bank of each that exists."""
    catalogue = ManifestLog(store, "catalogue")
    yield Ground(store, "versions", catalogue, _list_versions, lambda key: "/".join(key.split("/")[:3]))
    for folder in sorted(_list_folders(catalogue.latest().body)):
        bank = store.prefixed(f"{folder}/bank")
        yield Ground(bank, "segments", ManifestLog(bank, "log"), _list_segments, str)


def _list_versions(newest: Body, settled: Body) -> set[str]:
    return _list_folders(newest) | _list_folders(settled)


def _list_folders(body: Body) -> set[str]:
    view = View(body)
    return {entry.folder for name in view.names() for entry in view.versions(name)}


def _list_segments(newest: Body, settled: Body) -> set[str]:
    return {entry["key"] for body in (newest, settled) for entry in body.get("segments", [])}
