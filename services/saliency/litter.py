"""What a sweep of classifiers must know: which tensors the catalogue names, and the assessments beside them.

How the service keeps the three promises of `services.runtime.sweep`: a file has a random name and the
catalogue names it as soon as it is written; a version that was deleted never comes back; a file is read whole, at once.
"""

from collections.abc import Iterator

from services.runtime.manifest import Body, ManifestLog
from services.runtime.store import Store
from services.runtime.sweep import Ground
from services.saliency.catalogue import View


def list_grounds(store: Store) -> Iterator[Ground]:
    """Yields the folder of all tensors in the service's store."""
    yield Ground(store, "tensors", ManifestLog(store, "catalogue"), _list_tensors, str)


def _list_tensors(newest: Body, settled: Body) -> set[str]:
    views = View(newest), View(settled)
    entries = [entry for view in views for name in view.names() for entry in view.versions(name)]
    return {key for entry in entries for key in (entry.key, entry.assessment_key)}
