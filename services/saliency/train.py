"""Fine-tuning from labels only.

1. The backbone stays frozen: features of every picture, of its mirror image and of two crops are computed once, and the
   last layer learns on them for two thirds of the epochs (`frozen.py`).
2. The deeper half of the backbone thaws for the rest, with random crops and mirror images (`thaw.py`). Batch-norm
   statistics stay as they are: a handful of images would only spoil them.

A network that starts from nothing skips the first stage. Of all epochs the one with the best balanced accuracy on the
validation pictures is kept. The recipe of old is another way (`original.py`). Either ends with a look at all pictures
through the finished network (`conclude.py`).
"""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from services.saliency.backbones import build_network
from services.saliency.conclude import conclude
from services.saliency.embedding import embed_pictures, embed_thumbnails
from services.saliency.frozen import fit_frozen, start_from_nothing
from services.saliency.network import Network
from services.saliency.original import fit_original, start_original
from services.saliency.recipe import Recipe, RecipeName, Training, TrainingSet, Watch, number_labels
from services.saliency.split import split_validation
from services.saliency.task import State, Task, fingerprint_training, read_checkpoint, write_checkpoint
from services.saliency.thaw import fit_thawed

FROZEN_SHARE = 2 / 3  # of the epochs
PHASE = "looking for look-alikes"


def train_classifier(
    data: TrainingSet, recipe: Recipe, *, weights: Path | None, device: torch.device, watch: Watch
) -> Training:
    """Train a classifier. The same data, recipe and machine give the same network.

    `weights` is the backbone's safetensors file, None for the small network. `watch.resume` continues an interrupted
    training exactly; a checkpoint of other data or another recipe is ignored.
    Raises InvalidArgument where there are fewer than two labels or a label has one image, and what `watch.report`
    raises.
    """
    labels, numbers = number_labels(data.labels)
    network = _open_network(data, recipe, len(labels), weights, device)
    fingerprint = fingerprint_training(data, recipe, weights.read_bytes() if weights else b"")
    classes = torch.from_numpy(numbers).to(device)
    saved = read_checkpoint(watch, fingerprint, device)
    if saved is None:
        plain = _embed_for_split(data, recipe, network, device, watch)
        split = split_validation(numbers, data.groups, recipe.validation_fraction, recipe.seed, plain)
        task = Task(network, data, classes, split, recipe, watch, fingerprint)
        state = _begin(task, plain)
    else:
        state, split = saved
        task = Task(network, data, classes, split, recipe, watch, fingerprint)
    return _finish(task, labels, state)


def _open_network(
    data: TrainingSet, recipe: Recipe, classes: int, weights: Path | None, device: torch.device
) -> Network:
    stored = data.pictures.shape[1]
    size = recipe.find_input_size(stored)
    network = build_network(recipe.backbone, classes, weights=weights, input_size=size, seed=recipe.seed)
    network.module.to(device)
    form = dataclasses.replace(network.input_format, centre_of=0 if stored == size else stored)
    return dataclasses.replace(network, input_format=form)


def _embed_for_split(
    data: TrainingSet, recipe: Recipe, network: Network, device: torch.device, watch: Watch
) -> torch.Tensor | None:
    """Embeddings (n, d) to find look-alikes by; None where every picture has a group."""
    if all(data.groups):
        return None
    if recipe.starts_from_nothing:
        return embed_thumbnails(data.pictures).to(device)
    count = len(data.pictures)
    return embed_pictures(network, data.pictures, device, lambda done: watch.report(PHASE, done, count))


def _begin(task: Task, plain: torch.Tensor | None) -> State:
    if task.recipe.name is RecipeName.ORIGINAL:
        return start_original(task)
    if task.recipe.starts_from_nothing:
        return start_from_nothing(task)
    state = fit_frozen(task, _count_frozen(task.recipe), plain)
    write_checkpoint(task, state)
    return state


def _count_frozen(recipe: Recipe) -> int:
    return 0 if recipe.starts_from_nothing else max(1, round(FROZEN_SHARE * recipe.rounds))


def _finish(task: Task, labels: tuple[str, ...], state: State) -> Training:
    recipe = task.recipe
    if recipe.name is RecipeName.ORIGINAL:
        state = fit_original(task, state)
    else:
        state = fit_thawed(task, state, range(_count_frozen(recipe) + 1, recipe.rounds + 1))
    _centre_rows(task.network.linear)
    calibration, assessment = conclude(task, labels)
    return Training(
        network=task.network,
        labels=labels,
        calibration=calibration,
        assessment=assessment,
        split_by=task.split.by,
        mirrored=state.mirrored,
        train_count=len(task.training),
        validation_count=len(task.validation),
        best=max(state.history, key=recipe.rank),
        history=state.history,
    )


def _centre_rows(linear: nn.Linear) -> None:
    """Take out of the last layer what all labels share.

    The softmax does not see it, but a CAM would show it: what is left speaks for one label against the others.
    """
    with torch.no_grad():
        linear.weight.sub_(linear.weight.mean(0))
        linear.bias.sub_(linear.bias.mean())
