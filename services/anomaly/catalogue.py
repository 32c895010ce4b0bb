"""The detectors in the store: names, numbered versions, their thresholds, and where model and bank lie.

    catalogue/0000...1.json, ...             what there is: one manifest over all detectors
    versions/<name>/<token>/model.safetensors   written once, never changed
    versions/<name>/<token>/bank/...            the log of the bank and its segments

A version exists from the moment the catalogue names it; what no catalogue names is nobody's. The catalogue keeps, too,
which versions served one after the other; the last of them serves.
"""

import dataclasses
import secrets
from dataclasses import dataclass
from typing import Any

from services.anomaly.bank import Bank, Census, read_census
from services.anomaly.engines.engine import Layout
from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

KIND = "detector"
_REMEMBERED = 100  # changes of the version that serves: as far back as RollbackDetector can go
Body = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """What an RPC calls a detector: the version of a name that serves, or a certain one."""

    name: str
    version: int | None = None  # None: the one that serves

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


@dataclass(frozen=True)
class About:
    """What a training settled, as GetDetector tells it."""

    engine: str  # "patch" or "metric"
    options: dict[str, Any]
    backbone: str
    weights_source: str
    weights_description: str
    dataset: str
    encoding_id: str  # "" where images are judged as sent
    create_time: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Calibration:
    """A threshold with its promise, and what it was set from."""

    value: float
    false_alarm_rate: float
    confidence: float
    normal_count: int
    bank_version: int
    create_time: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Entry:
    """One version of a detector; `operation` is what made it."""

    name: str
    version: int
    token: str
    operation: str
    about: About
    calibration: Calibration | None
    serves: bool

    @property
    def reference(self) -> Reference:
        """What it is called, whatever serves."""
        return Reference(self.name, self.version)

    @property
    def folder(self) -> str:
        """Where in the store the version lies."""
        return f"versions/{self.name}/{self.token}"


@dataclass(frozen=True)
class Catalogue:
    """All detectors. Its methods block; any number of threads, processes and machines may use the same store."""

    store: Store
    log: ManifestLog

    @staticmethod
    def open(store: Store) -> "Catalogue":
        """Open the catalogue of the service's own store."""
        return Catalogue(store, ManifestLog(store, "catalogue"))

    def read(self) -> "View":
        """Read all there is now."""
        return View(self.log.latest().body)

    def announce(self, name: str) -> None:
        """Note that a detector is being trained, so that asking it too early is told apart from a wrong name."""
        if not self.log.latest().body.get(name, {}).get("announced"):
            self.log.update(lambda body: body | {name: _shelf(body, name) | {"announced": True}})

    def add(self, name: str, about: About, model: bytes, operation: str) -> Entry:
        """Add the next version, durable on return. Done twice for one operation, the second time changes nothing."""
        known = self._find_made_by(name, operation)
        if known is not None:
            return known
        token = secrets.token_hex(16)
        self.store.create(f"versions/{name}/{token}/model.safetensors", model)
        made = {"token": token, "operation": operation, "about": dataclasses.asdict(about), "calibration": None}
        self.log.update(lambda body: _append(body, name, made))
        made_now = self._find_made_by(name, operation)
        if made_now is None:  # deleted just now
            raise NotFound(KIND, name)
        return made_now

    def calibrate(self, entry: Entry, calibration: Calibration) -> None:
        """Set the threshold of a version. Raises NotFound where it was deleted since."""
        self.log.update(lambda body: _calibrate(body, entry, dataclasses.asdict(calibration)))

    def promote(self, entry: Entry) -> None:
        """Make a version the one that serves. Raises NotFound where it was deleted since."""
        self.log.update(lambda body: _promote(body, entry))

    def roll_back(self, name: str) -> None:
        """Make the version serve that served before.

        Raises:
            NotFound: an unknown name.
            FailedPrecondition: NO_EARLIER_VERSION, none that is left has served before.
        """
        self.log.update(lambda body: _roll_back(body, name))

    def delete(self, reference: Reference) -> None:
        """Delete a version, or a detector with all of them; its numbers are not used again.

        Raises:
            NotFound: an unknown name or version.
            FailedPrecondition: DETECTOR_SERVES, a version that serves goes only with the detector.
        """
        folder = f"versions/{reference.name}"
        if reference.version is None:
            self.log.update(lambda body: _empty(body, reference.name))
        else:
            entry = self.read().find(reference)
            self.log.update(lambda body: _drop(body, entry))
            folder = entry.folder
        for key in self.store.list(folder):
            self.store.delete(key)

    def load_model(self, entry: Entry) -> bytes:
        """Read a version's model. Raises NotFound where it was deleted since."""
        try:
            return self.store.get(f"{entry.folder}/model.safetensors")
        except NotFound as error:
            raise NotFound(KIND, entry.name) from error

    def open_bank(self, entry: Entry, layout: Layout) -> Bank:
        """Open the bank of a version and read it."""
        store = self.store.prefixed(f"{entry.folder}/bank")
        return Bank(store, ManifestLog(store, "log"), layout)

    def count_bank(self, entry: Entry) -> Census:
        """Count the bank of a version without reading it."""
        return read_census(ManifestLog(self.store.prefixed(f"{entry.folder}/bank"), "log"))

    def _find_made_by(self, name: str, operation: str) -> Entry | None:
        return next((entry for entry in self.read().versions(name) if entry.operation == operation), None)


@dataclass(frozen=True)
class View:
    """The catalogue at one moment."""

    body: Body

    def find(self, reference: Reference) -> Entry:
        """The version that is meant.

        Raises:
            NotFound: an unknown name or version.
            FailedPrecondition: DETECTOR_UNTRAINED, no training of it has ended yet.
        """
        entries, wanted = self.versions(reference.name), reference.version
        for entry in entries:
            if entry.version == wanted or (wanted is None and entry.serves):
                return entry
        if not entries and self.body.get(reference.name, {}).get("announced"):
            raise FailedPrecondition(
                "DETECTOR_UNTRAINED", f"detector {reference.name!r} has no version: no training of it ended"
            )
        raise NotFound(KIND, str(reference))

    def versions(self, name: str) -> list[Entry]:
        """All versions, oldest first; none for an unknown name."""
        shelf = _shelf(self.body, name)
        return [_read_entry(name, version, shelf["served"][-1]) for version in shelf["versions"]]

    def names(self) -> list[str]:
        """The names of all detectors that have a version, sorted."""
        return sorted(name for name, shelf in self.body.items() if shelf["versions"])


def _shelf(body: Body, name: str) -> Body:
    shelf: Body = body.get(name, {"announced": False, "last": 0, "versions": [], "served": []})
    return shelf


def _append(body: Body, name: str, made: Body) -> Body:
    shelf = _shelf(body, name)
    number = shelf["last"] + 1
    versions = [*shelf["versions"], made | {"version": number}]
    served = shelf["served"] or [number]  # the first one serves at once: there is no other
    return body | {name: {"announced": True, "last": number, "versions": versions, "served": served}}


def _find_shelf(body: Body, entry: Entry) -> Body:
    """The shelf on which a version stands. Raises NotFound where it was deleted since."""
    shelf = _shelf(body, entry.name)
    if all(version["token"] != entry.token for version in shelf["versions"]):
        raise NotFound(KIND, str(entry.reference))
    return shelf


def _promote(body: Body, entry: Entry) -> Body:
    shelf = _find_shelf(body, entry)
    again = shelf["served"][-1] == entry.version
    served = shelf["served"] if again else [*shelf["served"], entry.version][-_REMEMBERED:]
    return body | {entry.name: shelf | {"served": served}}


def _roll_back(body: Body, name: str) -> Body:
    shelf = _shelf(body, name)
    if not shelf["versions"]:
        raise NotFound(KIND, name)
    if len(shelf["served"]) == 1:
        raise FailedPrecondition("NO_EARLIER_VERSION", f"no other version of detector {name!r} has served before")
    return body | {name: shelf | {"served": shelf["served"][:-1]}}


def _drop(body: Body, entry: Entry) -> Body:
    shelf = _find_shelf(body, entry)
    if shelf["served"][-1] == entry.version:
        raise FailedPrecondition(
            "DETECTOR_SERVES", f"{entry.reference} serves: promote another version first, or delete the whole detector"
        )
    left = [number for number in shelf["served"] if number != entry.version]
    served = [number for number, before in zip(left, [0, *left], strict=False) if number != before]
    versions = [version for version in shelf["versions"] if version["version"] != entry.version]
    return body | {entry.name: shelf | {"versions": versions, "served": served}}


def _calibrate(body: Body, entry: Entry, calibration: Body) -> Body:
    shelf = _find_shelf(body, entry)
    versions = [
        version | {"calibration": calibration} if version["token"] == entry.token else version
        for version in shelf["versions"]
    ]
    return body | {entry.name: shelf | {"versions": versions}}


def _empty(body: Body, name: str) -> Body:
    shelf = _shelf(body, name)
    if not shelf["announced"]:
        raise NotFound(KIND, name)
    return body | {name: {"announced": False, "last": shelf["last"], "versions": [], "served": []}}


def _read_entry(name: str, version: Body, serving: int) -> Entry:
    calibration = version["calibration"]
    return Entry(
        name=name,
        version=version["version"],
        token=version["token"],
        operation=version["operation"],
        about=About(**version["about"]),
        calibration=None if calibration is None else Calibration(**calibration),
        serves=version["version"] == serving,
    )
