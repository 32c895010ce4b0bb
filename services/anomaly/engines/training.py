"""Deep metric learning over classes made from normal images alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.anomaly.backbones import Backbone
from services.anomaly.engines.defects import make_batch
from services.anomaly.engines.examples import Batch, see_images
from services.anomaly.engines.losses import MetricLoss

BATCH = 32
_LEARNING_RATE = 1e-4  # Adam; the source names no rate. Fine-tuning at Adam's default 1e-3 forgets ImageNet

See = Callable[[Backbone, Batch, np.random.Generator], tuple[Tensor, Tensor]]
"""What is learned from a batch: vectors (n, c) with gradients, and the class (n,) of each."""


@dataclass(frozen=True)
class Lesson:
    """What is trained on, all at one size."""

    images: NDArray[np.uint8]  # (n, h, w, 3) normal
    parts: NDArray[np.bool_]  # (n, h, w) where the part is
    class_count: int
    epochs: int
    learning_rate: float = _LEARNING_RATE
    head_learning_rate: float = _LEARNING_RATE
    seed: int = 0
    see: See = see_images


@dataclass(frozen=True)
class Progress:
    """How far the training is."""

    epoch: int  # done
    epochs: int
    loss: float  # mean over the last epoch
    accuracy: float  # share of what was seen in it whose made-up class was recognised


@dataclass(frozen=True)
class Journal:
    """What a training says and leaves on its way."""

    report: Callable[[Progress], None]  # called after every epoch; what it raises ends the training
    save: Callable[[bytes], None]  # called with a checkpoint after every epoch but the last
    checkpoint: bytes | None = None  # what `save` was given last, to go on from there


def train_metric(backbone: Backbone, head: MetricLoss, lesson: Lesson, journal: Journal) -> None:
    """Train `backbone` and `head` in place by Adam, batches of 32, a new class for every image in every batch.

    The randomness of an epoch depends on the seed and its number alone: a training that is resumed from a checkpoint
    ends in the same weights as one that was never interrupted.

    Args:
        backbone: the network, on any device.
        head: one of the losses, on the same device.
        lesson: the images and how to learn from them.
        journal: hears of every epoch.
    """
    network, loss_module = backbone.module(), head.module()
    learner = nn.ModuleList([network, loss_module])
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": lesson.learning_rate},
            {"params": loss_module.parameters(), "lr": lesson.head_learning_rate},
        ]
    )
    start = 0 if journal.checkpoint is None else _restore(learner, optimizer, journal.checkpoint)
    network.train()
    try:
        for epoch in range(start, lesson.epochs):
            loss, accuracy = _train_epoch(backbone, head, lesson, optimizer, epoch)
            journal.report(Progress(epoch + 1, lesson.epochs, loss, accuracy))
            if epoch + 1 < lesson.epochs:
                journal.save(_capture(learner, optimizer, epoch + 1))
    finally:
        network.eval()


def _train_epoch(
    backbone: Backbone, head: MetricLoss, lesson: Lesson, optimizer: torch.optim.Optimizer, epoch: int
) -> tuple[float, float]:
    random = np.random.default_rng([lesson.seed, epoch])
    torch.manual_seed(int(random.integers(1 << 62)))  # dropout, where a backbone has it
    losses, hits, count = 0.0, 0, 0
    for chosen in _split_batches(len(lesson.images), random):
        originals, parts = lesson.images[chosen], lesson.parts[chosen]
        made, classes = make_batch(originals, parts, lesson.class_count, random)
        vectors, truth = lesson.see(backbone, Batch(originals, made, classes, parts), random)
        loss = head.loss(vectors, truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses += float(loss.detach()) * len(truth)
        hits += int((head.logits(vectors.detach()).argmax(dim=1) == truth).sum())
        count += len(truth)
    return losses / count, hits / count


def _split_batches(count: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """A random order in batches of 32; a last one of a single image joins its neighbour (batch norm needs two)."""
    order = random.permutation(count)
    batches = [order[start : start + BATCH] for start in range(0, count, BATCH)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def _capture(learner: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> bytes:
    tensors = {f"learner.{name}": value.contiguous() for name, value in learner.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value.contiguous() for name, value in moments.items()}
    tensors["epoch"] = torch.tensor(epoch)
    return safetensors.torch.save(tensors)


def _restore(learner: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: bytes) -> int:
    tensors = safetensors.torch.load(checkpoint)
    start = int(tensors.pop("epoch"))
    state: dict[int, dict[str, Tensor]] = {}
    for name in [name for name in tensors if name.startswith("adam.")]:
        _, number, moment = name.split(".")
        state.setdefault(int(number), {})[moment] = tensors.pop(name)
    learner.load_state_dict({name.removeprefix("learner."): value for name, value in tensors.items()})
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return start
