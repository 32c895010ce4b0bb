"""A training in stages, each with checkpoints of its own, and how it survives its process as a whole."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from services.runtime.errors import DataLoss
from services.saliency import bundle
from services.saliency.pictures import Pixels
from services.saliency.segmentation.labelled import LabelledSet
from services.saliency.segmentation.recipe import Recipe, Watch

_INNER, _FOUND = "inner", "found:"


class Stages:
    """What is kept of a training: what stages found, once they have, and the checkpoint of the stage at work."""

    def __init__(self, watch: Watch, fingerprint: str) -> None:
        """Goes on where an interrupted training of the same fingerprint was, or begins."""
        self._watch = watch
        self._fingerprint = fingerprint
        self._found: dict[str, tuple[Pixels, ...]] = {}
        self._inner: bytes | None = None
        if watch.resume is not None:
            self._resume(watch.resume)

    def keep(self, stage: str, search: Callable[[], tuple[Pixels, ...]]) -> tuple[Pixels, ...]:
        """What a stage finds, uint8 arrays; no stage is gone through twice.

        A stage may have stages within it: what they found is forgotten when it ends.
        """
        if stage not in self._found:
            before = dict(self._found)
            self._found = before | {stage: search()}
            self._inner = None
            self._save(None)
        return self._found[stage]

    def open_watch(self) -> Watch:
        """What the stage at work is to report to, and to go on from."""
        return replace(self._watch, save=self._save, resume=self._inner)

    def _save(self, inner: bytes | None) -> None:
        tensors = {} if inner is None else {_INNER: torch.frombuffer(bytearray(inner), dtype=torch.uint8)}
        for stage, arrays in self._found.items():
            tensors |= {f"{_FOUND}{stage}/{place}": torch.from_numpy(array) for place, array in enumerate(arrays)}
        self._watch.save(bundle.pack(tensors, {"fingerprint": self._fingerprint}))

    def _resume(self, checkpoint: bytes) -> None:
        try:
            tensors, about = bundle.unpack(checkpoint)
        except DataLoss:
            return  # a torn checkpoint costs time, not the training
        if about.get("fingerprint") != self._fingerprint:
            return
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        if _INNER in arrays:
            self._inner = arrays.pop(_INNER).tobytes()
        for name in sorted(arrays):
            stage = name.removeprefix(_FOUND).rpartition("/")[0]
            self._found[stage] = (*self._found.get(stage, ()), arrays[name])


def fingerprint_training(data: LabelledSet, recipe: Recipe, weights: bytes) -> str:
    """Hash everything that a training depends on."""
    facts = (recipe, data.labels, data.groups, data.pictures.shape, sorted(data.masks), sorted(data.trimaps))
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
    digest.update(hashlib.blake2b(weights).digest())
    for part in (data.present, data.mains, *data.pictures, *data.masks.values(), *data.trimaps.values()):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
