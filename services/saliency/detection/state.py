"""A detector's training at one moment, and how it survives its process."""

import dataclasses
import hashlib
from dataclasses import dataclass

import torch

from services.runtime.errors import DataLoss
from services.saliency import bundle
from services.saliency.detection.network import DetectionNetwork
from services.saliency.detection.recipe import Epoch, PictureSet, Recipe, Watch

Tensors = dict[str, torch.Tensor]
PARTS = ("kept", "current", "averaged", "momenta")


@dataclass(frozen=True)
class State:
    """After so many epochs: `kept` are the averaged tensors of the best epoch, `current` and `averaged` the last ones.

    Only what learns is in them; the frozen rest of the backbone is in its file.
    """

    history: tuple[Epoch, ...]
    kept: Tensors
    current: Tensors
    averaged: Tensors
    momenta: Tensors

    def advance(self, epoch: Epoch, current: Tensors, averaged: Tensors, momenta: Tensors) -> "State":
        """Add an epoch; its averaged tensors are kept where it is the best so far."""
        is_best = all(epoch.rank > former.rank for former in self.history)
        return State((*self.history, epoch), averaged if is_best else self.kept, current, averaged, momenta)


def copy_learning(network: DetectionNetwork) -> Tensors:
    """Copy the tensors that learn."""
    learning = network.fresh | network.pretrained
    return {name: parameter.detach().clone() for name, parameter in learning.items()}


def load_learning(network: DetectionNetwork, tensors: Tensors) -> None:
    """Put tensors of `copy_learning` back into the network."""
    learning = network.fresh | network.pretrained
    with torch.no_grad():
        for name, tensor in tensors.items():
            learning[name].copy_(tensor)


def fingerprint_training(data: PictureSet, recipe: Recipe, weights: bytes) -> str:
    """Hash everything that a training depends on."""
    facts = (recipe, data.labels, data.groups, data.pixels.shape, data.extents.tolist())
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
    digest.update(hashlib.blake2b(weights).digest())
    for picture, boxes, classes in zip(data.pixels, data.boxes, data.classes, strict=True):
        for part in (picture, boxes, classes):
            digest.update(part.tobytes())
        digest.update(len(classes).to_bytes(4, "little"))
    return digest.hexdigest()


def write_checkpoint(watch: Watch, fingerprint: str, state: State) -> None:
    """Hand the state to whoever keeps checkpoints."""
    kept = {} if state.kept is state.averaged else state.kept  # nothing is written twice
    parts = dict(zip(PARTS, (kept, state.current, state.averaged, state.momenta), strict=True))
    tensors = {f"{part}:{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    history = [dataclasses.asdict(epoch) for epoch in state.history]
    watch.save(bundle.pack(tensors, {"fingerprint": fingerprint, "history": history}))


def read_checkpoint(watch: Watch, fingerprint: str, device: torch.device) -> State | None:
    """Continue where an interrupted training of the same data and recipe was; None to begin anew."""
    if watch.resume is None:
        return None
    try:
        tensors, about = bundle.unpack(watch.resume)
    except DataLoss:
        return None  # a torn checkpoint costs time, not the training
    if about.get("fingerprint") != fingerprint:
        return None
    kept, current, averaged, momenta = (_pick(tensors, part, device) for part in PARTS)
    history = tuple(Epoch(**epoch) for epoch in about["history"])
    return State(history, kept or averaged, current, averaged, momenta)


def _pick(tensors: Tensors, part: str, device: torch.device) -> Tensors:
    names = [name for name in tensors if name.startswith(f"{part}:")]
    return {name.removeprefix(f"{part}:"): tensors[name].to(device) for name in names}
