"""A training in two stages, each with checkpoints of its own, and how it survives its process as a whole."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from services.runtime.errors import DataLoss
from services.saliency import bundle
from services.saliency.pictures import Pixels
from services.saliency.segmentation.labelled import LabelledSet
from services.saliency.segmentation.recipe import Recipe, Watch

_SEEDS, _INNER = "seeds", "inner"


@dataclass(frozen=True, eq=False)
class Stages:
    """What is kept of a training: what the first stage found, once it has, and the checkpoint of the stage at work.

    Attributes:
        watch: of the training as a whole.
        fingerprint: tells checkpoints of other trainings apart.
        seeds: what the first stage found; None before.
    """

    watch: Watch
    fingerprint: str
    seeds: Pixels | None = None

    @classmethod
    def resume(cls, watch: Watch, fingerprint: str) -> "Stages":
        """Go on where an interrupted training of the same fingerprint was, or begin."""
        fresh = cls(replace(watch, resume=None), fingerprint)
        if watch.resume is None:
            return fresh
        try:
            tensors, about = bundle.unpack(watch.resume)
        except DataLoss:
            return fresh  # a torn checkpoint costs time, not the training
        if about.get("fingerprint") != fingerprint:
            return fresh
        inner = tensors[_INNER].numpy().tobytes() if _INNER in tensors else None
        seeds = tensors[_SEEDS].numpy() if _SEEDS in tensors else None
        return cls(replace(watch, resume=inner), fingerprint, seeds)

    def turn(self, seeds: Pixels) -> "Stages":
        """End the first stage."""
        second = Stages(replace(self.watch, resume=None), self.fingerprint, seeds)
        second._save(None)
        return second

    def open_watch(self) -> Watch:
        """What the stage at work is to report to, and to go on from."""
        return replace(self.watch, save=self._save)

    def _save(self, inner: bytes | None) -> None:
        tensors = {}
        if inner is not None:
            tensors[_INNER] = torch.frombuffer(bytearray(inner), dtype=torch.uint8)
        if self.seeds is not None:
            tensors[_SEEDS] = torch.from_numpy(self.seeds)
        self.watch.save(bundle.pack(tensors, {"fingerprint": self.fingerprint}))


def fingerprint_training(data: LabelledSet, recipe: Recipe, weights: bytes) -> str:
    """Hash everything that a training depends on."""
    facts = (recipe, data.labels, data.groups, data.pictures.shape, sorted(data.masks), sorted(data.trimaps))
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
    digest.update(hashlib.blake2b(weights).digest())
    for part in (data.present, data.mains, *data.pictures, *data.masks.values(), *data.trimaps.values()):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
