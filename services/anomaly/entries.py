"""What the catalogue says of detectors: its body, read and changed; nothing here touches the store."""

from dataclasses import dataclass
from typing import Any

from services.runtime.errors import FailedPrecondition, NotFound

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

    engine: str  # "patch", "metric" or "padim"
    options: dict[str, Any]
    backbone: str
    weights_source: str
    weights_description: str
    dataset: str
    encoding_id: str  # "" where images are judged as sent
    create_time: str  # ISO 8601, UTC
    encoding_category: str = ""  # "" where the encoding has only one


@dataclass(frozen=True)
class Limit:
    """The threshold of one category."""

    value: float
    normal_count: int  # that it was set from


@dataclass(frozen=True)
class Calibration:
    """The thresholds of all categories with their promise, and what they were set from."""

    limits: dict[str, Limit]  # by category
    false_alarm_rate: float
    confidence: float
    bank_version: int
    create_time: str  # ISO 8601, UTC
    scores_key: str  # in the version's folder: the scores that they were set from


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


def announce(body: Body, name: str) -> Body:
    """Note a name before it has a version."""
    return body | {name: _shelf(body, name) | {"announced": True}}


def append(body: Body, name: str, made: Body) -> Body:
    """Add a version to a name; the first one serves at once: there is no other."""
    shelf = _shelf(body, name)
    number = shelf["last"] + 1
    versions = [*shelf["versions"], made | {"version": number}]
    served = shelf["served"] or [number]
    return body | {name: {"announced": True, "last": number, "versions": versions, "served": served}}


def _find_shelf(body: Body, entry: Entry) -> Body:
    """The shelf on which a version stands. Raises NotFound where it was deleted since."""
    shelf = _shelf(body, entry.name)
    if all(version["token"] != entry.token for version in shelf["versions"]):
        raise NotFound(KIND, str(entry.reference))
    return shelf


def promote(body: Body, entry: Entry) -> Body:
    """Make a version the one that serves. Raises NotFound where it was deleted since."""
    shelf = _find_shelf(body, entry)
    again = shelf["served"][-1] == entry.version
    served = shelf["served"] if again else [*shelf["served"], entry.version][-_REMEMBERED:]
    return body | {entry.name: shelf | {"served": served}}


def roll_back(body: Body, name: str) -> Body:
    """Make the version serve that served before. Raises NotFound, or FailedPrecondition NO_EARLIER_VERSION."""
    shelf = _shelf(body, name)
    if not shelf["versions"]:
        raise NotFound(KIND, name)
    if len(shelf["served"]) == 1:
        raise FailedPrecondition("NO_EARLIER_VERSION", f"no other version of detector {name!r} has served before")
    return body | {name: shelf | {"served": shelf["served"][:-1]}}


def drop(body: Body, entry: Entry) -> Body:
    """Take a version away. Raises NotFound, or FailedPrecondition DETECTOR_SERVES."""
    shelf = _find_shelf(body, entry)
    if shelf["served"][-1] == entry.version:
        raise FailedPrecondition(
            "DETECTOR_SERVES", f"{entry.reference} serves: promote another version first, or delete the whole detector"
        )
    left = [number for number in shelf["served"] if number != entry.version]
    served = [number for number, before in zip(left, [0, *left], strict=False) if number != before]
    versions = [version for version in shelf["versions"] if version["version"] != entry.version]
    return body | {entry.name: shelf | {"versions": versions, "served": served}}


def calibrate(body: Body, entry: Entry, calibration: Body) -> Body:
    """Set the threshold of a version. Raises NotFound where it was deleted since."""
    shelf = _find_shelf(body, entry)
    versions = [
        version | {"calibration": calibration} if version["token"] == entry.token else version
        for version in shelf["versions"]
    ]
    return body | {entry.name: shelf | {"versions": versions}}


def empty(body: Body, name: str) -> Body:
    """Take all versions of a name away; its numbers are not used again. Raises NotFound."""
    shelf = _shelf(body, name)
    if not shelf["announced"]:
        raise NotFound(KIND, name)
    return body | {name: {"announced": False, "last": shelf["last"], "versions": [], "served": []}}


def _read_entry(name: str, version: Body, serving: int) -> Entry:
    return Entry(
        name=name,
        version=version["version"],
        token=version["token"],
        operation=version["operation"],
        about=About(**version["about"]),
        calibration=_read_calibration(version["calibration"]),
        serves=version["version"] == serving,
    )


def _read_calibration(calibration: Body | None) -> Calibration | None:
    if calibration is None or "limits" not in calibration:  # from before there were categories: once more, then
        return None
    limits = {category: Limit(**limit) for category, limit in calibration["limits"].items()}
    return Calibration(**calibration | {"limits": limits})
