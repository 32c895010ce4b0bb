"""The detectors at hand: loaded when first asked for, kept up to date, the least asked given up."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from services.anomaly.bank import Bank
from services.anomaly.catalogue import Catalogue
from services.anomaly.entries import Entry, Reference, View
from services.anomaly.figures import Figures
from services.anomaly.model import Detector, Verdict
from services.anomaly.threshold import Standard, Threshold
from services.anomaly.training import Model, load_model
from services.anomaly.watched import Watched
from services.runtime.errors import DataLoss, MekikiError
from services.runtime.follower import Follower

LOG = structlog.get_logger()


@dataclass
class _Loaded:
    """A detector in memory; bank and calibration change, the model never."""

    model: Model
    bank: Bank
    follower: Follower
    watched: Watched


class Shelf:
    """Finds and loads detectors for one event loop.

    Args:
        catalogue: what there is.
        device: where detectors compute.
        capacity: most of them in memory.
        follow_s: how often to look what others have changed.
    """

    def __init__(self, catalogue: Catalogue, device: torch.device, capacity: int, follow_s: float) -> None:
        self._catalogue = catalogue
        self._device = device
        self._capacity = capacity
        self._follow_s = follow_s
        self._view = View({})
        self._follower = Follower("detectors", self._read, follow_s)
        self._loads: OrderedDict[tuple[str, str], asyncio.Task[_Loaded]] = OrderedDict()  # by name and token
        self._figures = Figures()

    async def look(self) -> View:
        """Read the catalogue now."""
        await self._follower.read()
        return self._view

    async def take(self, reference: Reference, category: str | None = None) -> tuple[Entry, Detector]:
        """A version of a detector with its bank: a little behind, and more where the store is away.

        A category that is not known is looked for in the bank as it is now.

        Raises:
            NotFound: an unknown name or version.
            FailedPrecondition: DETECTOR_UNTRAINED.
            DataLoss: it is damaged.
        """
        entry = await self._find(reference)
        loaded = await self._load(entry)
        await self._follow_calibration(entry)  # it may have changed while the detector was being loaded
        await loaded.follower.follow()
        if category is not None and category not in loaded.bank.snapshot.categories:
            # Its first item may have been enrolled just now, and whoever waited for that must not miss it.
            await loaded.follower.catch_up()
        return entry, self._assemble(entry, loaded)

    async def take_bank(self, reference: Reference) -> tuple[Entry, Detector, Bank]:
        """The same for writing: the version that is meant just now, and its bank."""
        await self.look()
        entry = await self._find(reference)
        loaded = await self._load(entry)
        return entry, self._assemble(entry, loaded), loaded.bank

    def list_banks(self) -> list[Bank]:
        """The banks in memory; may be called in any thread."""
        loads = tuple(self._loads.values())
        return [load.result().bank for load in loads if _is_loaded(load)]

    def _assemble(self, entry: Entry, loaded: _Loaded) -> Detector:
        snapshot = loaded.bank.snapshot
        if entry.serves and _key(entry) in self._loads:  # else it was given up just now
            self._figures.show(entry, snapshot)
        return Detector(loaded.model, snapshot, loaded.watched.standards, self._device)

    def note(self, entry: Entry, verdict: Verdict) -> None:
        """Count the score of an image that a line had judged."""
        loaded = self._find_loaded(entry)
        if loaded is not None:
            drift = loaded.watched.add(verdict.category, verdict.score)
            if entry.serves and drift is not None and loaded.watched.calibration is not None:
                self._figures.show_drift(entry, loaded.watched.calibration, verdict.category, drift)

    def watch(self, entry: Entry) -> Watched | None:
        """What this process has seen of a version since it was loaded and calibrated; None where it is not loaded."""
        loaded = self._find_loaded(entry)
        return None if loaded is None else loaded.watched

    def _find_loaded(self, entry: Entry) -> _Loaded | None:
        load = self._loads.get(_key(entry))
        return load.result() if load is not None and _is_loaded(load) else None

    async def _find(self, reference: Reference) -> Entry:
        await self._follower.follow()
        try:
            entry = self._view.find(reference)
        except MekikiError:
            await self._follower.read()
        else:
            if entry.calibration is None:
                # It may have been calibrated just now, and whoever waited for that must not miss the threshold.
                await self._follower.catch_up()
        return self._view.find(reference)

    async def _read(self) -> None:
        view = await asyncio.to_thread(self._catalogue.read)
        known = {_key(entry): entry for name in view.names() for entry in view.versions(name)}
        for key in self._loads.keys() - known.keys():
            del self._loads[key]
        for key in tuple(self._loads):
            await self._follow_calibration(known[key])
        self._view = view
        self._tidy_figures()

    async def _follow_calibration(self, entry: Entry) -> None:
        """Threshold and scores change together, before anybody sees either."""
        loaded = self._find_loaded(entry)
        if loaded is not None and loaded.watched.calibration != entry.calibration:
            loaded.watched = await asyncio.to_thread(_open_watched, self._catalogue, entry)

    async def _load(self, entry: Entry) -> _Loaded:
        key = _key(entry)
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = asyncio.create_task(asyncio.to_thread(self._open, entry))
        self._loads.move_to_end(key)
        while len(self._loads) > self._capacity:
            self._loads.popitem(last=False)
            self._tidy_figures()
        try:
            return await asyncio.shield(load)  # others may wait for the same one when this caller gives up
        except Exception:
            self._loads.pop(key, None)
            self._tidy_figures()
            raise

    def _tidy_figures(self) -> None:
        self._figures.keep({name for name, _ in self._loads})

    def _open(self, entry: Entry) -> _Loaded:
        model = load_model(self._catalogue.load_model(entry), self._device)
        bank = self._catalogue.open_bank(entry, model.engine.layout, model.engine.prepare)

        async def follow() -> None:
            await asyncio.to_thread(bank.refresh)

        watched = _open_watched(self._catalogue, entry)
        return _Loaded(model, bank, Follower(f"bank of {entry.name}", follow, self._follow_s), watched)


def _is_loaded(load: asyncio.Task[_Loaded]) -> bool:
    return load.done() and not load.cancelled() and load.exception() is None


def _open_watched(catalogue: Catalogue, entry: Entry) -> Watched:
    try:
        scores = catalogue.load_scores(entry)
    except DataLoss as error:  # verdicts go on; p-values and the look for drift do not
        LOG.warning("scores_lost", detector=str(entry.reference), problem=error.message)
        scores = {}
    return Watched(entry.calibration, to_standards(entry, scores))


def _key(entry: Entry) -> tuple[str, str]:
    return entry.name, entry.token


def to_standards(entry: Entry, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Standard]:
    """What a version was calibrated to, by category, with the scores that there are; empty before it is."""
    calibration = entry.calibration
    if calibration is None:
        return {}
    rate, confidence = calibration.false_alarm_rate, calibration.confidence
    return {
        category: Standard(
            Threshold(limit.value, rate, confidence, 0, limit.normal_count), scores.get(category, np.empty(0))
        )
        for category, limit in calibration.limits.items()
    }
