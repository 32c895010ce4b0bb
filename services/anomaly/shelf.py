"""The detectors at hand: loaded when first asked for, kept up to date, the least asked given up."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import torch

from services.anomaly.bank import Bank
from services.anomaly.catalogue import Catalogue, Entry, Reference, View
from services.anomaly.figures import Figures
from services.anomaly.model import Detector
from services.anomaly.threshold import Threshold
from services.anomaly.training import Model, load_model
from services.runtime.errors import MekikiError
from services.runtime.follower import Follower


@dataclass
class _Loaded:
    """A detector in memory; the bank changes, the model never."""

    model: Model
    bank: Bank
    follower: Follower


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

    async def take(self, reference: Reference) -> tuple[Entry, Detector]:
        """A version of a detector with its bank: a little behind, and more where the store is away.

        Raises:
            NotFound: an unknown name or version.
            FailedPrecondition: DETECTOR_UNTRAINED.
            DataLoss: it is damaged.
        """
        entry = await self._find(reference)
        loaded = await self._load(entry)
        await loaded.follower.follow()
        return entry, self._assemble(entry, loaded)

    async def take_bank(self, reference: Reference) -> tuple[Entry, Detector, Bank]:
        """The same for writing: the version that is meant just now, and its bank."""
        await self.look()
        entry = await self._find(reference)
        loaded = await self._load(entry)
        return entry, self._assemble(entry, loaded), loaded.bank

    def _assemble(self, entry: Entry, loaded: _Loaded) -> Detector:
        snapshot = loaded.bank.snapshot
        if entry.serves and _key(entry) in self._loads:  # else it was given up just now
            self._figures.show(entry, snapshot)
        return Detector(loaded.model, snapshot, to_threshold(entry), self._device)

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
        self._view = await asyncio.to_thread(self._catalogue.read)
        known = {_key(entry) for name in self._view.names() for entry in self._view.versions(name)}
        for key in self._loads.keys() - known:
            del self._loads[key]
        self._tidy_figures()

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
        bank = self._catalogue.open_bank(entry, model.engine.layout)

        async def follow() -> None:
            await asyncio.to_thread(bank.refresh)

        return _Loaded(model, bank, Follower(f"bank of {entry.name}", follow, self._follow_s))


def _key(entry: Entry) -> tuple[str, str]:
    return entry.name, entry.token


def to_threshold(entry: Entry) -> Threshold | None:
    """The threshold of a version, None before it is calibrated."""
    calibration = entry.calibration
    if calibration is None:
        return None
    return Threshold(
        calibration.value, calibration.false_alarm_rate, calibration.confidence, 0, calibration.normal_count
    )
