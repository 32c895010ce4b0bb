"""The classifiers at hand: the newest versions, loaded when first asked for, the least asked given up."""

import asyncio
from collections import OrderedDict

import torch

from services.runtime.follower import Follower
from services.runtime.model_metrics import MODELS
from services.saliency.catalogue import KIND, Catalogue, Entry, View
from services.saliency.model import Classifier

FOLLOW_S = 0.5
"""How often to look for versions that other processes added."""


class Shelf:
    """Finds and loads classifiers for one event loop.

    Args:
        catalogue: what there is.
        device: where classifiers compute.
        capacity: most of them in memory.
    """

    def __init__(self, catalogue: Catalogue, device: torch.device, capacity: int) -> None:
        self._catalogue = catalogue
        self._device = device
        self._capacity = capacity
        self._view = View({})
        self._follower = Follower("classifiers", self._read, FOLLOW_S)
        self._loads: OrderedDict[tuple[str, int], asyncio.Task[Classifier]] = OrderedDict()

    async def look(self) -> View:
        """Read the catalogue now."""
        await self._follower.read()
        return self._view

    async def take(self, name: str) -> tuple[Entry, Classifier]:
        """Give the newest version of a classifier, loaded.

        Raises NotFound, FailedPrecondition CLASSIFIER_UNTRAINED, DataLoss.
        """
        entry = await self._find(name)
        key = (name, entry.version)
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = asyncio.create_task(asyncio.to_thread(self._load, entry))
        self._loads.move_to_end(key)
        while len(self._loads) > self._capacity:
            self._give_up(next(iter(self._loads)))
        try:
            # Shielded: others may wait for the same one when this caller gives up.
            classifier = await asyncio.shield(load)
        except Exception:
            self._give_up(key)
            raise
        if key in self._loads:
            MODELS.meet(KIND, name)
        return entry, classifier

    async def _find(self, name: str) -> Entry:
        await self._follower.follow()
        if name not in self._view.names():
            await self._follower.read()
        return self._view.find(name)

    async def _read(self) -> None:
        self._view = await asyncio.to_thread(self._catalogue.read)
        self._drop_deleted()

    def _drop_deleted(self) -> None:
        for name, version in list(self._loads):
            if not any(entry.version == version for entry in self._view.versions(name)):
                self._give_up((name, version))

    def _give_up(self, key: tuple[str, int]) -> None:
        self._loads.pop(key, None)
        if all(name != key[0] for name, _ in self._loads):
            MODELS.forget(KIND, key[0])

    def _load(self, entry: Entry) -> Classifier:
        return Classifier.load(self._catalogue.load(entry), self._device)
