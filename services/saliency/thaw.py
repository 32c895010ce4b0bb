"""The second stage: the deeper half of a backbone, or all of a network that started from nothing, learns along."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from services.saliency.augment import vary
from services.saliency.head import judge, weigh_classes
from services.saliency.momenta import copy_momenta, load_momenta
from services.saliency.recipe import Recipe
from services.saliency.task import State, Task, write_checkpoint

# Of the learning rate, for what is pretrained, and for the head once it has learnt on it. Of .1, .4 and 1, by what was
# held out of CIFAR-10 training images.
BACKBONE_SHARE = 0.4
WEIGHT_DECAY = 1e-3
MOMENTUM = 0.9
MOST_GRADIENT = 1.0  # norm over all that learns
WARM_UP_SHARE = 0.1  # of the steps
PATIENCE = 8  # epochs without a better one, or a quarter of all where that is more, end the training
PHASE = "training the network"


@dataclass(frozen=True)
class Stage:
    """The stage's fixed parts. `epochs` are the numbers of its epochs; `class_weights` is (k,)."""

    task: Task
    epochs: range
    learning: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    class_weights: torch.Tensor

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self.task.training) / self.task.recipe.batch_size)


def fit_thawed(task: Task, state: State, epochs: range) -> State:
    """Train the epochs of `epochs` that `state` has not seen yet, with a checkpoint after each.

    The network ends with the tensors of the best epoch of all. Ends early when nothing gets better any more.
    """
    stage = _open_stage(task, state, epochs)
    for number in range(len(state.history) + 1, epochs.stop):
        if _has_settled(task.recipe, state):
            break
        _fit_epoch(stage, state, number)
        epoch = judge(task.score_validation(), task.classes[task.validation], number)
        state = state.advance(task.recipe, epoch, task.copy_learning(), copy_momenta(stage.optimiser, stage.learning))
        write_checkpoint(task, state)
    task.load_learning(state.kept)
    return state


def _has_settled(recipe: Recipe, state: State) -> bool:
    """Whether nothing has become better for so long that nothing will (early stopping; Prechelt, 1998)."""
    if not state.history:
        return False
    best = max(state.history, key=recipe.rank)
    return len(state.history) - best.number >= max(PATIENCE, recipe.rounds // 4)


def _open_stage(task: Task, state: State, epochs: range) -> Stage:
    learning = task.learning
    for parameter in task.network.module.parameters():
        parameter.requires_grad_(False)
    for parameter in learning.values():
        parameter.requires_grad_()
    task.load_learning(state.current)
    optimiser = _choose_optimiser(task.recipe, list(learning.values()))
    weights = weigh_classes(task.classes[task.training], task.network.linear.out_features)
    stage = Stage(task, epochs, learning, optimiser, weights)
    load_momenta(optimiser, learning, state.momenta)
    return stage


def _choose_optimiser(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam for a network from nothing; momentum for a pretrained one.

    Adam's steps have one size however small the gradient: where the last layer already tells all labels apart, they
    would only shake a good backbone. Those of plain gradient descent then vanish.
    """
    if recipe.starts_from_nothing:
        return torch.optim.AdamW(parameters, weight_decay=WEIGHT_DECAY)
    return torch.optim.SGD(parameters, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY)


def _fit_epoch(stage: Stage, state: State, number: int) -> None:
    """One round over the training pictures. Its chances depend on seed and number alone, so that it can be resumed."""
    task = stage.task
    generator = torch.Generator().manual_seed(task.recipe.seed * 1000 + number)
    order = task.training[torch.randperm(len(task.training), generator=generator)]
    for step, part in enumerate(torch.split(order, task.recipe.batch_size)):
        _set_learning_rate(stage, (number - stage.epochs.start) * stage.steps_per_epoch + step)
        pictures = vary(task.data.pictures[part.numpy()], generator, mirror=state.mirrored)
        _take_step(stage, task.feed(pictures), task.classes[part.to(task.device)])
        done = (number - stage.epochs.start) * stage.steps_per_epoch + step + 1
        task.report(PHASE, done, len(stage.epochs) * stage.steps_per_epoch, state.history)


def _take_step(stage: Stage, inputs: torch.Tensor, classes: torch.Tensor) -> None:
    logits = stage.task.network.module(inputs)
    loss = functional.cross_entropy(logits, classes, weight=stage.class_weights)
    gradients = torch.autograd.grad(loss, list(stage.learning.values()))
    for parameter, gradient in zip(stage.learning.values(), gradients, strict=True):
        parameter.grad = gradient
    # One hard image in a small batch must not throw a good backbone off.
    torch.nn.utils.clip_grad_norm_(list(stage.learning.values()), MOST_GRADIENT)
    stage.optimiser.step()


def _set_learning_rate(stage: Stage, step: int) -> None:
    """Warm up, then fall along a cosine (Loshchilov and Hutter, ICLR 2017)."""
    recipe = stage.task.recipe
    peak = recipe.learning_rate * (1 if recipe.starts_from_nothing else BACKBONE_SHARE)
    steps = len(stage.epochs) * stage.steps_per_epoch
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP_SHARE * steps))
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in stage.optimiser.param_groups:
        group["lr"] = peak * rise * fall
