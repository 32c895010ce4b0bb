"""The segmenters in the store, beside the classifiers; how they lie there is told in `versions.py`."""

from dataclasses import dataclass

from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.saliency.versions import Body, Kind, Version, Versions

FOLDER = "segmenters"
"""Of the service's own store."""


@dataclass(frozen=True)
class About:
    """What a training found out, as GetSegmenter tells it."""

    labels: tuple[str, ...]
    engine: str
    backbone: str
    weights_source: str
    weights_description: str
    input_size: int
    train_count: int
    left_out_count: int
    masked_count: int
    create_time: str
    """ISO 8601, UTC."""


Entry = Version[About]
Catalogue = Versions[About]


def _read_about(about: Body) -> About:
    return About(**(about | {"labels": tuple(about["labels"])}))


KIND = Kind("segmenter", "segmenter", _read_about)


def open_catalogue(store: Store) -> Catalogue:
    """Open the catalogue in a service's own store."""
    own = store.prefixed(FOLDER)
    return Versions(own, ManifestLog(own, "catalogue"), KIND)
