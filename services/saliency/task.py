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
from services.saliency.pictures import Pixels, cut_centre, normalise
from services.saliency.recipe import Epoch, Recipe, RecipeName, TrainingSet, Watch
from services.saliency.split import Split

Tensors = dict[str, torch.Tensor]

VALIDATION_BATCH = 16


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
        """What learns: all that lies behind the backbone's middle stage; of a network from nothing, and of old, all.

        The edges and textures before the middle serve any image as they are, and cost most of the time.
        """
        parameters = dict(self.network.module.named_parameters())
        layers = self.network.layers
        if self.recipe.starts_from_nothing or self.recipe.name is RecipeName.ORIGINAL or not layers:
            return parameters
        middle = layers[len(layers) // 2] + "."
        before = [number for number, name in enumerate(parameters) if name.startswith(middle)]
        return dict(list(parameters.items())[before[-1] + 1 :]) if before else parameters

    def copy_learning(self) -> Tensors:
        """Copy the tensors that learn; the original's batch-norm statistics follow its images, too."""
        tensors: dict[str, torch.Tensor] = dict(self.learning)
        if self.recipe.name is RecipeName.ORIGINAL:
            tensors |= dict(self.network.module.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def load_learning(self, tensors: Tensors) -> None:
        """Put tensors of `copy_learning` back into the network."""
        own = self.network.module.state_dict()
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)

    def feed(self, pictures: Pixels) -> torch.Tensor:
        """Turn pictures of the network's size into its input."""
        form = self.network.input_format
        return normalise(pictures, form.mean, form.std, self.device)

    def look(self, indices: torch.Tensor) -> torch.Tensor:
        """The network's input for some of the pictures, as it will be when they are served."""
        chosen, size = indices.cpu().numpy(), self.network.input_format.size
        pictures = self.data.pictures[chosen]
        if self.network.input_format.centre_of:
            aspects = [self.data.aspects[index] if self.data.aspects else 1.0 for index in chosen]
            pairs = zip(pictures, aspects, strict=True)
            pictures = np.stack([cut_centre(picture, aspect, size) for picture, aspect in pairs])
        return self.feed(pictures)

    def score_validation(self) -> torch.Tensor:
        """Logits of the validation pictures, (v, k)."""
        with torch.no_grad():
            parts = torch.split(self.validation, VALIDATION_BATCH)
            return torch.cat([self.network.module(self.look(part)) for part in parts])

    def report(self, phase: str, done: int, total: int, history: tuple[Epoch, ...]) -> None:
        """Report a step of a phase, with the figures of the last epoch and the best accuracy so far."""
        if not history:
            self.watch.report(phase, done, total)
            return
        last, best = history[-1], max(history, key=self.recipe.rank)
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

    def advance(self, recipe: Recipe, epoch: Epoch, current: Tensors, momenta: Tensors) -> "State":
        """Add an epoch; its tensors are kept where it is the best so far."""
        is_best = all(recipe.rank(epoch) > recipe.rank(former) for former in self.history)
        return State(self.mirrored, (*self.history, epoch), current if is_best else self.kept, current, momenta)


def fingerprint_training(data: TrainingSet, recipe: Recipe, weights: bytes) -> str:
    """Hash everything that a training depends on."""
    told = (recipe, data.labels, data.groups, data.item_ids, data.aspects, data.pictures.shape)
    digest = hashlib.blake2b(repr(told).encode(), digest_size=16)
    digest.update(hashlib.blake2b(weights).digest())
    for picture in data.pictures:
        digest.update(picture.tobytes())
    return digest.hexdigest()


def write_checkpoint(task: Task, state: State) -> None:
    """Hand the state, and the split that it goes with, to whoever keeps checkpoints."""
    kept = {} if state.kept is state.current else state.kept  # nothing is written twice
    split = {"held_out": torch.from_numpy(task.split.held_out), "units": torch.from_numpy(task.split.units)}
    parts = {"kept": kept, "current": state.current, "momenta": state.momenta, "split": split}
    tensors = {f"{part}:{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    about = {
        "fingerprint": task.fingerprint,
        "mirrored": state.mirrored,
        "history": [dataclasses.asdict(epoch) for epoch in state.history],
        "split_by": task.split.by,
        "look_alike_cosine": task.split.look_alike_cosine,
    }
    task.watch.save(bundle.pack(tensors, about))


def read_checkpoint(watch: Watch, fingerprint: str, device: torch.device) -> tuple[State, Split] | None:
    """Give where an interrupted training of the same data and recipe was; None to begin anew."""
    if watch.resume is None:
        return None
    try:
        tensors, about = bundle.unpack(watch.resume)
    except DataLoss:
        return None  # a torn checkpoint costs time, not the training
    if about.get("fingerprint") != fingerprint or "split_by" not in about:
        return None
    history = tuple(Epoch(**epoch) for epoch in about["history"])
    kept, current, momenta = (_pick(tensors, part, device) for part in ("kept", "current", "momenta"))
    parts = {name: tensor.numpy() for name, tensor in _pick(tensors, "split", torch.device("cpu")).items()}
    split = Split(about["split_by"], **parts, look_alike_cosine=about["look_alike_cosine"])
    return State(bool(about["mirrored"]), history, kept or current, current, momenta), split


def _pick(tensors: Tensors, part: str, device: torch.device) -> Tensors:
    names = [name for name in tensors if name.startswith(f"{part}:")]
    return {name.removeprefix(f"{part}:"): tensors[name].to(device) for name in names}
