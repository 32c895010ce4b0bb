"""The classifiers in the store: names, numbered versions, and where their tensors lie.

    catalogue/0000...1.json, ...        what there is: one manifest over all classifiers
    tensors/<name>/<token>.safetensors  written once, never changed
    tensors/<name>/<token>.assessment   likewise, beside it: how it did on what was held out

A version exists from the moment its manifest does; tensors without one are nobody's, and are swept.
"""

import dataclasses
import secrets
from dataclasses import dataclass
from typing import Any

from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

KIND = "classifier"
Body = dict[str, Any]


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


@dataclass(frozen=True)
class Entry:
    """One version of a classifier; `key` is where its tensors are, `operation` what made it."""

    name: str
    version: int
    key: str
    operation: str
    about: About

    @property
    def assessment_key(self) -> str:
        """Where its assessment is, if it has one: those that were trained before there was this have none."""
        return _name_assessment(self.key)


def _name_assessment(key: str) -> str:
    return key.removesuffix(".safetensors") + ".assessment"


@dataclass(frozen=True)
class Catalogue:
    """All classifiers. Its methods block; any number of threads, processes and machines may use the same store."""

    store: Store
    log: ManifestLog

    @classmethod
    def open(cls, store: Store) -> "Catalogue":
        """Open the catalogue of a service's own store."""
        return cls(store, ManifestLog(store, "catalogue"))

    def read(self) -> "View":
        """Read all there is now."""
        return View(self.log.latest().body)

    def announce(self, name: str) -> None:
        """Note that a classifier is being trained, so that asking it too early is told apart from a wrong name."""
        if name not in self.log.latest().body:
            self.log.update(lambda body: {name: _nothing(), **body})

    def add(self, name: str, about: About, tensors: bytes, operation: str, assessment: bytes = b"") -> Entry:
        """Add the next version, durable on return. Done twice for one operation, the second time changes nothing."""
        known = self._find_made_by(name, operation)
        if known is not None:
            return known
        key = f"tensors/{name}/{secrets.token_hex(16)}.safetensors"
        self.store.create(key, tensors)
        if assessment:
            self.store.create(_name_assessment(key), assessment)
        self.log.update(lambda body: _append(body, name, key, operation, about))
        return self.read().find(name)

    def delete(self, name: str) -> None:
        """Delete a classifier with all its versions; its numbers are not used again. Raises NotFound."""
        known = self.read().versions(name)
        self.log.update(lambda body: _empty(body, name))
        for entry in known:  # of a training that ends just now, the sweep takes care
            self.store.delete(entry.key)
            self.store.delete(entry.assessment_key)

    def load(self, entry: Entry) -> bytes:
        """Read a version's tensors. Raises NotFound where it was deleted since."""
        try:
            return self.store.get(entry.key)
        except NotFound as error:
            raise NotFound(KIND, entry.name) from error

    def load_assessment(self, entry: Entry) -> bytes:
        """Read how a version did on what was held out; b"" where nothing is known."""
        try:
            return self.store.get(entry.assessment_key)
        except NotFound:
            return b""

    def _find_made_by(self, name: str, operation: str) -> Entry | None:
        entries = self.read().versions(name)
        return next((entry for entry in entries if entry.operation == operation), None)


@dataclass(frozen=True)
class View:
    """The catalogue at one moment."""

    body: Body

    def find(self, name: str) -> Entry:
        """Give the newest version.

        Raises NotFound for an unknown name, FailedPrecondition CLASSIFIER_UNTRAINED where no training has ended yet.
        """
        entries = self.versions(name)
        if entries:
            return entries[-1]
        if self.body.get(name, {}).get("announced"):
            raise FailedPrecondition(
                "CLASSIFIER_UNTRAINED", f"classifier {name!r} has no version yet: no training of it ended"
            )
        raise NotFound(KIND, name)

    def versions(self, name: str) -> list[Entry]:
        """Give all versions, oldest first; none for an unknown name."""
        return [_read_entry(name, version) for version in self.body.get(name, _nothing())["versions"]]

    def names(self) -> list[str]:
        """Give the names of all classifiers that have a version, sorted."""
        return sorted(name for name, shelf in self.body.items() if shelf["versions"])


def _nothing() -> Body:
    return {"announced": True, "last": 0, "versions": []}


def _append(body: Body, name: str, key: str, operation: str, about: About) -> Body:
    shelf = body.get(name, _nothing())
    number = shelf["last"] + 1
    version = {"version": number, "key": key, "operation": operation, "about": dataclasses.asdict(about)}
    changed = {"announced": True, "last": number, "versions": [*shelf["versions"], version]}
    return body | {name: changed}


def _empty(body: Body, name: str) -> Body:
    shelf = body.get(name, {"announced": False, "versions": []})
    if not shelf["announced"]:
        raise NotFound(KIND, name)
    return body | {name: {"announced": False, "last": shelf["last"], "versions": []}}


def _read_entry(name: str, version: Body) -> Entry:
    about = version["about"]
    facts = About(**(about | {"labels": tuple(about["labels"])}))
    return Entry(name, version["version"], version["key"], version["operation"], facts)
