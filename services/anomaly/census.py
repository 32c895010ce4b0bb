"""What the manifest of a bank says: written with every version, and counted without any segment being read."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from services.anomaly.segment import Segment
from services.anomaly.snapshot import Snapshot


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


@dataclass(frozen=True)
class Census:
    """What a manifest says of a bank."""

    version: int
    items: int
    vectors: int
    categories: dict[str, int]  # items of each, by name
    recalls: tuple[float, ...] = ()  # of the segments that are searched by lists

    @property
    def recall(self) -> float:
        """How often a search finds the nearest vector, at least: 1 where all are compared."""
        return min(self.recalls, default=1.0)


def take_census(manifest: Manifest) -> Census:
    """Count a version of a bank."""
    body = manifest.body
    items = body.get("items", 0)
    categories = body.get("categories", {"": items} if items else {})  # a bank from before there were any
    recalls = tuple(entry["recall"] for entry in body.get("segments", []) if "recall" in entry)
    return Census(manifest.number, items, body.get("vectors", 0), categories, recalls)


def describe_bank(snapshot: Snapshot) -> dict[str, Any]:
    """The body of the manifest of a version."""
    counts: Counter[str] = Counter()
    for segment in snapshot.segments:
        counts[segment.category] += len(segment.rows.items) - len(snapshot.gone(segment))
    return {
        "items": counts.total(),
        "categories": dict(sorted(counts.items())),
        "vectors": sum(segment.rows.count_without(snapshot.gone(segment)) for segment in snapshot.segments),
        "segments": [_describe_segment(segment) for segment in snapshot.segments],
        "forgotten": {key: sorted(items) for key, items in snapshot.forgotten.items()},
    }


def _describe_segment(segment: Segment) -> dict[str, Any]:
    entry: dict[str, Any] = {"key": segment.key, "sha256": segment.sha256}
    if segment.category:
        entry["category"] = segment.category
    return entry if segment.inverted is None else {**entry, "recall": segment.inverted.recall}
