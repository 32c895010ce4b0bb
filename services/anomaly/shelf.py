"""The detectors at hand: loaded when first asked for, kept up to date, the least asked given up."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import torch

from services.anomaly.bank import Bank
from services.anomaly.catalogue import Catalogue, Entry, View
from services.anomaly.figures import Figures
from services.anomaly.model import Detector
from services.anomaly.threshold import Threshold
from services.anomaly.training import Model, load_model

PATIENCE = 4
"""After so many times the usual interval a call waits for the bank to be followed: nobody asked for a while."""


@dataclass
class _Loaded:
    """A detector in memory; the bank changes, the model never."""

    model: Model
    bank: Bank
    followed_at_s: float
    following: asyncio.Task[object] | None = field(default=None)


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
        self._read_at_s = float("-inf")
        self._reading = asyncio.Lock()
        self._loads: OrderedDict[tuple[str, str], asyncio.Task[_Loaded]] = OrderedDict()  # by name and token
        self._figures = Figures()

    async def look(self) -> View:
        """Read the catalogue now."""
        async with self._reading:
            return await self._read()

    async def take(self, name: str) -> tuple[Entry, Detector]:
        """The version of a detector that serves, with its bank as known here: at most `follow_s` behind when in use.

        Raises:
            NotFound: an unknown name.
            FailedPrecondition: DETECTOR_UNTRAINED.
            DataLoss: it is damaged.
        """
        entry = await self._find(name)
        loaded = await self._load(entry)
        await self._follow(loaded)
        return entry, self._assemble(entry, loaded)

    async def take_bank(self, name: str) -> tuple[Entry, Detector, Bank]:
        """The same for writing: the version that serves just now, and its bank."""
        await self.look()
        entry = await self._find(name)
        loaded = await self._load(entry)
        return entry, self._assemble(entry, loaded), loaded.bank

    def _assemble(self, entry: Entry, loaded: _Loaded) -> Detector:
        snapshot = loaded.bank.snapshot
        if _key(entry) in self._loads:  # else it was given up just now
            self._figures.show(entry, snapshot)
        return Detector(loaded.model, snapshot, to_threshold(entry), self._device)

    async def _find(self, name: str) -> Entry:
        async with self._reading:
            late = time.monotonic() - self._read_at_s > self._follow_s
            if late or not self._knows_threshold(name):
                await self._read()
        return self._view.find(name)

    def _knows_threshold(self, name: str) -> bool:
        """Where there is none yet, it may have been set just now, and its absence must not linger."""
        versions = self._view.versions(name)
        return bool(versions) and versions[-1].calibration is not None

    async def _read(self) -> View:
        self._view, self._read_at_s = await asyncio.to_thread(self._catalogue.read), time.monotonic()
        known = {_key(entry) for name in self._view.names() for entry in self._view.versions(name)}
        for key in self._loads.keys() - known:
            del self._loads[key]
        self._tidy_figures()
        return self._view

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
        return _Loaded(model, self._catalogue.open_bank(entry, model.engine.layout), time.monotonic())

    async def _follow(self, loaded: _Loaded) -> None:
        """Follow other writers beside the calls; only after a long silence does a call wait for it."""
        age_s = time.monotonic() - loaded.followed_at_s
        if age_s <= self._follow_s:
            return
        if loaded.following is None or loaded.following.done():
            loaded.following = asyncio.create_task(self._refresh(loaded))
        if age_s > PATIENCE * self._follow_s:
            await asyncio.shield(loaded.following)

    async def _refresh(self, loaded: _Loaded) -> None:
        started_s = time.monotonic()
        await asyncio.to_thread(loaded.bank.refresh)
        loaded.followed_at_s = started_s


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
