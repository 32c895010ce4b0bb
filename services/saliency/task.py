"""One training in progress: what its stages share, and the state that they hand on and keep in a checkpoint."""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from services.runtime.errors import DataLoss
from services.saliency import bundle
from services.saliency.network import Network
from services.saliency.pictures import Pixels, normalise
from services.saliency.recipe import Epoch, Recipe, TrainingSet, Watch
from services.saliency.split import Split

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Task:
    """What does not change during a training. `fingerprint` tells checkpoints of other trainings apart."""

    network: Network
    data: TrainingSet
    classes: torch.Tensor  # (n,) int64, on the training's device
    split: Split
    recipe: Recipe
    watch: Watch
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.classes.device

    @property
    def training(self) -> torch.Tensor:
        """Indices of the pictures to learn from, (t,) int64."""
        return torch.from_numpy(np.flatnonzero(~self.split.held_out))

    @property
    def validation(self) -> torch.Tensor:
        """Indices of the pictures held out, (v,) int64."""
        return torch.from_numpy(np.flatnonzero(self.split.held_out))

    @property
    def learning(self) -> dict[str, nn.Parameter]:
        """What learns: all that lies behind the backbone's middle stage, or the whole of a network from nothing.

        The edges and textures before the middle serve any image as they are, and cost most of the time.
        """
        parameters = dict(self.network.module.named_parameters())
        layers = self.network.layers
        if self.recipe.starts_from_nothing or not layers:
            return parameters
        middle = layers[len(layers) // 2] + "."
        before = [number for number, name in enumerate(parameters) if name.startswith(middle)]
        return dict(list(parameters.items())[before[-1] + 1 :]) if before else parameters

    def copy_learning(self) -> Tensors:
        """Copy the tensors that learn."""
        return {name: parameter.detach().clone() for name, parameter in self.learning.items()}

    def load_learning(self, tensors: Tensors) -> None:
        """Put tensors of `copy_learning` back into the network."""
        learning = self.learning
        with torch.no_grad():
            for name, tensor in tensors.items():
                learning[name].copy_(tensor)

    def feed(self, pictures: Pixels) -> torch.Tensor:
        """Turn pictures into the network's input."""
        form = self.network.input_format
        return normalise(pictures, form.mean, form.std, self.device)

    def report(self, phase: str, done: int, total: int, history: tuple[Epoch, ...]) -> None:
        """Report a step of a phase, with the figures of the last epoch and the best accuracy so far."""
        if not history:
            self.watch.report(phase, done, total)
            return
        last, best = history[-1], max(history, key=lambda epoch: epoch.rank)
        self.watch.report(
            phase,
            done,
            total,
            validation_loss=last.loss,
            validation_accuracy=last.accuracy,
            best_accuracy=best.accuracy,
        )


@dataclass(frozen=True)
class State:
    """After so many epochs: `kept` are the tensors of the best epoch, `current` those of the last one.

    Only what learns is in them; the frozen rest of the backbone is in its file.
    """

    mirrored: bool
    history: tuple[Epoch, ...]
    kept: Tensors
    current: Tensors
    momenta: Tensors

    def advance(self, epoch: Epoch, current: Tensors, momenta: Tensors) -> "State":
        """Add an epoch; its tensors are kept where it is the best so far."""
        is_best = all(epoch.rank > former.rank for former in self.history)
        return State(self.mirrored, (*self.history, epoch), current if is_best else self.kept, current, momenta)


def fingerprint_training(data: TrainingSet, recipe: Recipe, weights: bytes) -> str:
    """Hash everything that a training depends on."""
    digest = hashlib.blake2b(repr((recipe, data.labels, data.groups, data.pictures.shape)).encode(), digest_size=16)
    digest.update(hashlib.blake2b(weights).digest())
    for picture in data.pictures:
        digest.update(picture.tobytes())
    return digest.hexdigest()


def write_checkpoint(task: Task, state: State) -> None:
    """Hand the state to whoever keeps checkpoints."""
    kept = {} if state.kept is state.current else state.kept  # nothing is written twice
    parts = {"kept": kept, "current": state.current, "momenta": state.momenta}
    tensors = {f"{part}:{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    history = [dataclasses.asdict(epoch) for epoch in state.history]
    about = {"fingerprint": task.fingerprint, "mirrored": state.mirrored, "history": history}
    task.watch.save(bundle.pack(tensors, about))


def read_checkpoint(task: Task) -> State | None:
    """Continue where an interrupted training of the same data and recipe was; None to begin anew."""
    if task.watch.resume is None:
        return None
    try:
        tensors, about = bundle.unpack(task.watch.resume)
    except DataLoss:
        return None  # a torn checkpoint costs time, not the training
    if about.get("fingerprint") != task.fingerprint:
        return None
    history = tuple(Epoch(**epoch) for epoch in about["history"])
    kept, current, momenta = (_pick(tensors, part, task.device) for part in ("kept", "current", "momenta"))
    return State(bool(about["mirrored"]), history, kept or current, current, momenta)


def _pick(tensors: Tensors, part: str, device: torch.device) -> Tensors:
    names = [name for name in tensors if name.startswith(f"{part}:")]
    return {name.removeprefix(f"{part}:"): tensors[name].to(device) for name in names}
