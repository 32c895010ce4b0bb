"""The models at hand: the newest versions, loaded when first asked for, the least asked given up."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from services.runtime.follower import Follower
from services.runtime.model_metrics import MODELS
from services.saliency.versions import A, Version, Versions, View

M = TypeVar("M")

FOLLOW_S = 0.5
"""How often to look for versions that other processes added."""


class Shelf(Generic[A, M]):
    """Finds and loads models of one kind for one event loop.

    Args:
        catalogue: what there is.
        load: makes a model of its saved bytes; it runs in a thread.
        capacity: most of them in memory.
    """

    def __init__(self, catalogue: Versions[A], load: Callable[[bytes], M], capacity: int) -> None:
        self._catalogue = catalogue
        self._load_model = load
        self._capacity = capacity
        self._kind = catalogue.kind
        self._view = View({}, self._kind)
        self._follower = Follower(f"{self._kind.noun}s", self._read, FOLLOW_S)
        self._loads: OrderedDict[tuple[str, int], asyncio.Task[M]] = OrderedDict()

    async def look(self) -> View[A]:
        """Read the catalogue now."""
        await self._follower.read()
        return self._view

    async def take(self, name: str) -> tuple[Version[A], M]:
        """Give the newest version of a model, loaded.

        Raises NotFound, FailedPrecondition such as CLASSIFIER_UNTRAINED, DataLoss.
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
            model = await asyncio.shield(load)
        except Exception:
            self._give_up(key)
            raise
        if key in self._loads:
            MODELS.meet(self._kind.field, name)
        return entry, model

    async def _find(self, name: str) -> Version[A]:
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
            MODELS.forget(self._kind.field, key[0])

    def _load(self, entry: Version[A]) -> M:
        return self._load_model(self._catalogue.load(entry))
