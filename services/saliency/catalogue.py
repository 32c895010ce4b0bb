"""The classifiers in the store; how they lie there is told in `versions.py`."""

from dataclasses import dataclass

from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.saliency.versions import Body, Kind, Version, Versions

KIND = "classifier"


@dataclass(frozen=True)
class About:
    """What a training found out, as GetClassifier tells it."""

    labels: tuple[str, ...]
    backbone: str
    weights_source: str
    weights_description: str
    input_size: int
    validation_accuracy: float
    split_by: str
    train_count: int
    validation_count: int
    best_epoch: int
    create_time: str
    """ISO 8601, UTC."""
    recipe: str = "thawed"
    temperature: float = 1.0


Entry = Version[About]


def _read_about(about: Body) -> About:
    return About(**(about | {"labels": tuple(about["labels"])}))


@dataclass(frozen=True)
class Catalogue(Versions[About]):
    """All classifiers."""

    @classmethod
    def open(cls, store: Store) -> "Catalogue":
        """Open the catalogue of a service's own store."""
        return cls(store, ManifestLog(store, "catalogue"), Kind(KIND, KIND, _read_about))
