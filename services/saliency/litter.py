"""What a sweep of models must know: which tensors the catalogues name.

How the service keeps the three promises of `services.runtime.sweep`: a file has a random name and the
catalogue names it as soon as it is written; a version that was deleted never comes back; a file is read whole, at once.
"""

from collections.abc import Iterator

from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.runtime.sweep import Ground
from services.saliency.detection.catalogue import FOLDER as OBJECT_DETECTORS
from services.saliency.segmentation.catalogue import FOLDER as SEGMENTERS
from services.saliency.versions import list_tensors


def list_grounds(store: Store) -> Iterator[Ground]:
    """Yields the folders of all tensors in the service's store."""
    for part in (store, store.prefixed(OBJECT_DETECTORS), store.prefixed(SEGMENTERS)):
        yield Ground(part, "tensors", ManifestLog(part, "catalogue"), list_tensors, str)
