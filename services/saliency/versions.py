"""Models in the store: names, numbered versions, and where their tensors lie.

    catalogue/0000...1.json, ...        what there is: one manifest over all models of a kind
    tensors/<name>/<token>.safetensors  written once, never changed
    tensors/<name>/<token>.assessment   likewise, beside it where there is one: how it did on what was held out

A version exists from the moment its manifest does; tensors without one are nobody's, and are swept. Each kind of model
has such folders of its own.
"""

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

A = TypeVar("A", bound="DataclassInstance")
"""What is told about a version: a dataclass of what JSON can hold."""
Body = dict[str, Any]


@dataclass(frozen=True)
class Kind(Generic[A]):
    """A kind of model."""

    noun: str
    """What people call it, such as "object detector"."""
    field: str
    """The field of requests that names one, such as "object_detector"."""
    read_about: Callable[[Body], A]
    """Makes of JSON what is told about a version."""


@dataclass(frozen=True)
class Version(Generic[A]):
    """One version of a model; `key` is where its tensors are, `operation` what made it."""

    name: str
    version: int
    key: str
    operation: str
    about: A

    @property
    def assessment_key(self) -> str:
        """Where its assessment is, if it has one."""
        return _name_assessment(self.key)


def _name_assessment(key: str) -> str:
    return key.removesuffix(".safetensors") + ".assessment"


@dataclass(frozen=True)
class Versions(Generic[A]):
    """All models of a kind. Its methods block; any number of threads, processes and machines may use the same store."""

    store: Store
    log: ManifestLog
    kind: Kind[A]

    def read(self) -> "View[A]":
        """Read all there is now."""
        return View(self.log.latest().body, self.kind)

    def announce(self, name: str) -> None:
        """Note that a model is being trained, so that asking it too early is told apart from a wrong name."""
        if name not in self.log.latest().body:
            self.log.update(lambda body: {name: _nothing(), **body})

    def add(self, name: str, about: A, tensors: bytes, operation: str, assessment: bytes = b"") -> Version[A]:
        """Add the next version, durable on return. Done twice for one operation, the second time changes nothing."""
        known = self._find_made_by(name, operation)
        if known is not None:
            return known
        key = f"tensors/{name}/{secrets.token_hex(16)}.safetensors"
        self.store.create(key, tensors)
        if assessment:
            self.store.create(_name_assessment(key), assessment)
        self.log.update(lambda body: _append(body, name, key, operation, dataclasses.asdict(about)))
        return self.read().find(name)

    def delete(self, name: str) -> None:
        """Delete a model with all its versions; its numbers are not used again. Raises NotFound."""
        known = self.read().versions(name)
        self.log.update(lambda body: _empty(body, name, self.kind.noun))
        for entry in known:  # of a training that ends just now, the sweep takes care
            self.store.delete(entry.key)
            self.store.delete(entry.assessment_key)

    def load(self, entry: Version[A]) -> bytes:
        """Read a version's tensors. Raises NotFound where it was deleted since."""
        try:
            return self.store.get(entry.key)
        except NotFound as error:
            raise NotFound(self.kind.noun, entry.name) from error

    def load_assessment(self, entry: Version[A]) -> bytes:
        """Read how a version did on what was held out; b"" where nothing is known."""
        try:
            return self.store.get(entry.assessment_key)
        except NotFound:
            return b""

    def _find_made_by(self, name: str, operation: str) -> Version[A] | None:
        entries = self.read().versions(name)
        return next((entry for entry in entries if entry.operation == operation), None)


@dataclass(frozen=True)
class View(Generic[A]):
    """The models of a kind at one moment."""

    body: Body
    kind: Kind[A]

    def find(self, name: str) -> Version[A]:
        """Give the newest version.

        Raises NotFound for an unknown name, FailedPrecondition such as CLASSIFIER_UNTRAINED where no training has ended
        yet.
        """
        entries = self.versions(name)
        if entries:
            return entries[-1]
        if self.body.get(name, {}).get("announced"):
            reason = f"{self.kind.field.upper()}_UNTRAINED"
            raise FailedPrecondition(reason, f"{self.kind.noun} {name!r} has no version yet: no training of it ended")
        raise NotFound(self.kind.noun, name)

    def versions(self, name: str) -> list[Version[A]]:
        """Give all versions, oldest first; none for an unknown name."""
        return [self._read_version(name, version) for version in self.body.get(name, _nothing())["versions"]]

    def names(self) -> list[str]:
        """Give the names of all models that have a version, sorted."""
        return sorted(name for name, shelf in self.body.items() if shelf["versions"])

    def _read_version(self, name: str, version: Body) -> Version[A]:
        about = self.kind.read_about(version["about"])
        return Version(name, version["version"], version["key"], version["operation"], about)


def list_tensors(newest: Body, settled: Body) -> set[str]:
    """The keys of all tensors, and of the assessments beside them, that either state of a catalogue names."""
    shelves = [shelf for body in (newest, settled) for shelf in body.values()]
    keys = {version["key"] for shelf in shelves for version in shelf["versions"]}
    return keys | set(map(_name_assessment, keys))


def _nothing() -> Body:
    return {"announced": True, "last": 0, "versions": []}


def _append(body: Body, name: str, key: str, operation: str, about: Body) -> Body:
    shelf = body.get(name, _nothing())
    number = shelf["last"] + 1
    version = {"version": number, "key": key, "operation": operation, "about": about}
    changed = {"announced": True, "last": number, "versions": [*shelf["versions"], version]}
    return body | {name: changed}


def _empty(body: Body, name: str, noun: str) -> Body:
    shelf = body.get(name, {"announced": False, "versions": []})
    if not shelf["announced"]:
        raise NotFound(noun, name)
    return body | {name: {"announced": False, "last": shelf["last"], "versions": []}}
