"""Fine-tuning from labels only.

1. The backbone stays frozen: features of every picture, of its mirror image and of two crops are computed once, and the
   last layer learns on them for two thirds of the epochs (`frozen.py`).
2. The deeper half of the backbone thaws for the rest, with random crops and mirror images (`thaw.py`). Batch-norm
   statistics stay as they are: a handful of images would only spoil them.

A network that starts from nothing skips the first stage. Of all epochs the one with the best balanced accuracy on the
validation pictures is kept.
"""

from pathlib import Path

import torch
from torch import nn

from services.saliency.backbones import build_network
from services.saliency.frozen import fit_frozen, start_from_nothing
from services.saliency.recipe import Recipe, Training, TrainingSet, Watch, number_labels
from services.saliency.split import split_validation
from services.saliency.task import State, Task, fingerprint_training, read_checkpoint, write_checkpoint
from services.saliency.thaw import fit_thawed

FROZEN_SHARE = 2 / 3  # of the epochs


def train_classifier(
    data: TrainingSet, recipe: Recipe, *, weights: Path | None, device: torch.device, watch: Watch
) -> Training:
    """Train a classifier. The same data, recipe and machine give the same network.

    `weights` is the backbone's safetensors file, None for the small network. `watch.resume` continues an interrupted
    training exactly; a checkpoint of other data or another recipe is ignored.
    Raises InvalidArgument where there are fewer than two labels or a label has one image, and what `watch.report`
    raises.
    """
    labels, task = _open_task(data, recipe, weights, device, watch)
    frozen_epochs = 0 if recipe.starts_from_nothing else max(1, round(FROZEN_SHARE * recipe.rounds))
    state = read_checkpoint(task) or _begin(task, frozen_epochs)
    state = fit_thawed(task, state, range(frozen_epochs + 1, recipe.rounds + 1))
    _centre_rows(task.network.linear)
    best = max(state.history, key=lambda epoch: epoch.rank)
    counts = len(task.training), len(task.validation)
    return Training(task.network, labels, task.split.by, state.mirrored, *counts, best, state.history)


def _open_task(
    data: TrainingSet, recipe: Recipe, weights: Path | None, device: torch.device, watch: Watch
) -> tuple[tuple[str, ...], Task]:
    labels, classes = number_labels(data.labels)
    split = split_validation(classes, data.groups, recipe.validation_fraction, recipe.seed)
    size = data.pictures.shape[1]
    network = build_network(recipe.backbone, len(labels), weights=weights, input_size=size, seed=recipe.seed)
    network.module.to(device)
    fingerprint = fingerprint_training(data, recipe, weights.read_bytes() if weights else b"")
    return labels, Task(network, data, torch.from_numpy(classes).to(device), split, recipe, watch, fingerprint)


def _centre_rows(linear: nn.Linear) -> None:
    """Take out of the last layer what all labels share.

    The softmax does not see it, but a CAM would show it: what is left speaks for one label against the others.
    """
    with torch.no_grad():
        linear.weight.sub_(linear.weight.mean(0))
        linear.bias.sub_(linear.bias.mean())


def _begin(task: Task, frozen_epochs: int) -> State:
    if task.recipe.starts_from_nothing:
        return start_from_nothing(task)
    state = fit_frozen(task, frozen_epochs)
    write_checkpoint(task, state)
    return state
