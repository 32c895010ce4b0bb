"""The recipe of old: all layers learn at once, as transfer learning was usually taught.

SGD with momentum .9, a tenth of the learning rate every 7 epochs, random resized crops and mirror images; batch-norm
statistics follow the batches, and of VGG's classifier half is dropped (Simonyan and Zisserman, ICLR 2015, section 3.1).
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from services.saliency.head import judge
from services.saliency.momenta import copy_momenta, load_momenta
from services.saliency.pictures import Pixels, cut_region
from services.saliency.task import State, Task, write_checkpoint

MOMENTUM = 0.9
DECAY, DECAY_EPOCHS = 0.1, 7
VGG_DROPOUT = 0.5
AREAS = (0.08, 1.0)  # of the image, as Szegedy et al. (CVPR 2015, section 6) draw them
STRETCHES = (3 / 4, 4 / 3)
ATTEMPTS = 10
PHASE = "training the network"


def start_original(task: Task) -> State:
    """Give the state before the first epoch: a last layer drawn as torch draws one, from the recipe's seed."""
    linear = task.network.linear
    generator = torch.Generator().manual_seed(task.recipe.seed)
    reach = 1 / math.sqrt(linear.in_features)
    with torch.no_grad():
        for tensor in (linear.weight, linear.bias):
            tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * reach)
    learning = task.copy_learning()
    return State(mirrored=True, history=(), kept=learning, current=learning, momenta={})


def fit_original(task: Task, state: State) -> State:
    """Train the epochs that `state` has not seen yet, with a checkpoint after each; all of them, whatever they bring.

    The network ends with the tensors of the epoch with the best validation accuracy.
    """
    learning = task.learning
    for parameter in learning.values():
        parameter.requires_grad_()
    task.load_learning(state.current)
    optimiser = torch.optim.SGD(list(learning.values()), lr=task.recipe.learning_rate, momentum=MOMENTUM)
    load_momenta(optimiser, learning, state.momenta)
    for number in range(len(state.history) + 1, task.recipe.rounds + 1):
        _fit_epoch(task, state, optimiser, number)
        epoch = judge(task.score_validation(), task.classes[task.validation], number)
        state = state.advance(task.recipe, epoch, task.copy_learning(), copy_momenta(optimiser, learning))
        write_checkpoint(task, state)
    task.load_learning(state.kept)
    return state


def _fit_epoch(task: Task, state: State, optimiser: torch.optim.Optimizer, number: int) -> None:
    """One round over the training pictures. Its chances depend on seed and number alone, so that it can be resumed."""
    seed = task.recipe.seed * 1000 + number
    generator = torch.Generator().manual_seed(seed)
    order = task.training[torch.randperm(len(task.training), generator=generator)]
    for group in optimiser.param_groups:
        group["lr"] = task.recipe.learning_rate * DECAY ** ((number - 1) // DECAY_EPOCHS)
    parts = _drop_lone(torch.split(order, task.recipe.batch_size), task.recipe.batch_size)
    devices = [task.device] if task.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)  # what drops neurons draws from torch's own generator
        _prepare_to_learn(task)
        for step, part in enumerate(parts, start=1):
            _take_step(task, optimiser, part, generator)
            done = (number - 1) * len(parts) + step
            task.report(PHASE, done, task.recipe.rounds * len(parts), state.history)
    task.network.module.eval()


def _drop_lone(parts: tuple[torch.Tensor, ...], batch_size: int) -> tuple[torch.Tensor, ...]:
    """Leave out a last batch of one image: batch norm needs two. Another epoch has another order."""
    return parts[:-1] if len(parts) > 1 and batch_size > 1 and len(parts[-1]) == 1 else parts


def _prepare_to_learn(task: Task) -> None:
    module = task.network.module.train()
    if task.network.backbone.startswith("vgg"):
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = VGG_DROPOUT  # timm leaves it at 0; it does nothing once the network serves


def _take_step(task: Task, optimiser: torch.optim.Optimizer, part: torch.Tensor, generator: torch.Generator) -> None:
    pictures = [_vary(task, int(index), generator) for index in part]
    logits = task.network.module(task.feed(np.stack(pictures)))
    loss = functional.cross_entropy(logits, task.classes[part.to(task.device)])
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _vary(task: Task, index: int, generator: torch.Generator) -> Pixels:
    size = task.network.input_format.size
    aspect = task.data.aspects[index] if task.data.aspects else 1.0
    width, height = draw_crop(aspect, generator)
    x, y, mirror = torch.rand(3, generator=generator).tolist()
    crop = cut_region(task.data.pictures[index], size, width, height, (x, y))
    return np.ascontiguousarray(crop[:, ::-1]) if mirror < 0.5 else crop


def draw_crop(aspect: float, generator: torch.Generator) -> tuple[float, float]:
    """Draw a crop's width and height as shares of an image's, whose width by height is `aspect`.

    As torchvision's RandomResizedCrop does: an area, a shape, and after ten that do not fit the largest in the middle
    range of shapes.
    """
    for area, stretch in torch.rand(ATTEMPTS, 2, generator=generator).tolist():
        share = AREAS[0] + (AREAS[1] - AREAS[0]) * area
        low, high = (math.log(end) for end in STRETCHES)
        shape = math.exp(low + (high - low) * stretch)
        width, height = math.sqrt(share * shape / aspect), math.sqrt(share * aspect / shape)
        if width <= 1 and height <= 1:
            return width, height
    shape = min(max(aspect, STRETCHES[0]), STRETCHES[1])
    return min(1.0, shape / aspect), min(1.0, aspect / shape)
