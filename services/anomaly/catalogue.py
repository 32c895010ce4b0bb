"""The detectors in the store: names, numbered versions, their thresholds, and where model and bank lie.

    catalogue/0000...1.json, ...             what there is: one manifest over all detectors
    versions/<name>/<token>/model.safetensors   written once, never changed
    versions/<name>/<token>/scores/...          those of the normals of each calibration, by category
    versions/<name>/<token>/bank/...            the log of the bank and its segments

A version exists from the moment the catalogue names it; what no catalogue names is nobody's. The catalogue keeps, too,
which versions served one after the other; the last of them serves.
"""

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from services.anomaly import entries
from services.anomaly.bank import Bank
from services.anomaly.census import Census, take_census
from services.anomaly.engines.engine import Layout
from services.anomaly.entries import KIND, About, Calibration, Entry, Reference, View
from services.anomaly.snapshot import Snapshot
from services.runtime.errors import DataLoss, NotFound
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

_SCORES = "scores."  # before a category's name, which may be empty


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
            self.log.update(lambda body: entries.announce(body, name))

    def add(self, name: str, about: About, model: bytes, operation: str) -> Entry:
        """Add the next version, durable on return. Done twice for one operation, the second time changes nothing."""
        known = self._find_made_by(name, operation)
        if known is not None:
            return known
        token = secrets.token_hex(16)
        self.store.create(f"versions/{name}/{token}/model.safetensors", model)
        made = {"token": token, "operation": operation, "about": dataclasses.asdict(about), "calibration": None}
        self.log.update(lambda body: entries.append(body, name, made))
        made_now = self._find_made_by(name, operation)
        if made_now is None:  # deleted just now
            raise NotFound(KIND, name)
        return made_now

    def calibrate(self, entry: Entry, calibration: Calibration, scores: Mapping[str, NDArray[np.float64]]) -> None:
        """Set the thresholds of a version, with the normals' scores by category. Raises NotFound where it is gone."""
        data = safetensors.numpy.save({f"{_SCORES}{category}": np.sort(each) for category, each in scores.items()})
        self.store.create(f"{entry.folder}/{calibration.scores_key}", data)
        self.log.update(lambda body: entries.calibrate(body, entry, dataclasses.asdict(calibration)))

    def promote(self, entry: Entry) -> None:
        """Make a version the one that serves. Raises NotFound where it was deleted since."""
        self.log.update(lambda body: entries.promote(body, entry))

    def roll_back(self, name: str) -> None:
        """Make the version serve that served before.

        Raises:
            NotFound: an unknown name.
            FailedPrecondition: NO_EARLIER_VERSION, none that is left has served before.
        """
        self.log.update(lambda body: entries.roll_back(body, name))

    def delete(self, reference: Reference) -> None:
        """Delete a version, or a detector with all of them; its numbers are not used again.

        Raises:
            NotFound: an unknown name or version.
            FailedPrecondition: DETECTOR_SERVES, a version that serves goes only with the detector.
        """
        folder = f"versions/{reference.name}"
        if reference.version is None:
            self.log.update(lambda body: entries.empty(body, reference.name))
        else:
            entry = self.read().find(reference)
            self.log.update(lambda body: entries.drop(body, entry))
            folder = entry.folder
        for key in self.store.list(folder):
            self.store.delete(key)

    def load_model(self, entry: Entry) -> bytes:
        """Read a version's model. Raises NotFound where it was deleted since."""
        try:
            return self.store.get(f"{entry.folder}/model.safetensors")
        except NotFound as error:
            raise NotFound(KIND, entry.name) from error

    def load_scores(self, entry: Entry) -> dict[str, NDArray[np.float64]]:
        """The scores that a version was calibrated on, by category, ascending; none before it is.

        Raises:
            DataLoss: they are damaged or gone.
        """
        if entry.calibration is None:
            return {}
        try:
            stored = safetensors.numpy.load(self.store.get(f"{entry.folder}/{entry.calibration.scores_key}"))
            return {
                category: np.asarray(stored[f"{_SCORES}{category}"], dtype=np.float64)
                for category in entry.calibration.limits
            }
        except (NotFound, safetensors.SafetensorError, KeyError) as error:
            raise DataLoss(f"the scores that {entry.reference} was calibrated on are damaged or gone") from error

    def open_bank(self, entry: Entry, layout: Layout, prepare: Callable[[Snapshot], None] = lambda _: None) -> Bank:
        """Open the bank of a version and read it; see `Bank`."""
        store = self.store.prefixed(f"{entry.folder}/bank")
        return Bank(store, ManifestLog(store, "log"), layout, prepare)

    def count_bank(self, entry: Entry) -> Census:
        """Count the bank of a version without reading it."""
        return take_census(ManifestLog(self.store.prefixed(f"{entry.folder}/bank"), "log").latest())

    def _find_made_by(self, name: str, operation: str) -> Entry | None:
        return next((entry for entry in self.read().versions(name) if entry.operation == operation), None)
