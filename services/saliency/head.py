"""The last layer alone, on features that a frozen backbone computed once."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from services.saliency.recipe import Epoch

WEIGHT_DECAY = 1e-3  # per Loshchilov and Hutter (ICLR 2019); keeps the layer tame where features outnumber images


MIRROR_VISITS = 4000  # of images, in learning what their mirror images are tried on: seconds, however many there are
MIRROR_LOSS = 0.2  # of the images
MIRROR_SURENESS = 6.6  # the chi-square of one in a hundred


@dataclass(frozen=True)
class Head:
    """A linear layer: `weight` (k, d), `bias` (k,)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """(n, d) → logits (n, k)."""
        return functional.linear(features, self.weight, self.bias)


@dataclass(frozen=True)
class Course:
    """How a head learns; `class_weights` (k,) makes every label count alike."""

    epochs: int
    learning_rate: float
    batch_size: int
    class_weights: torch.Tensor


def weigh_classes(classes: torch.Tensor, count: int) -> torch.Tensor:
    """Give the weight of each class, inverse to its images, mean 1 over the images. (n,) int64 → (count,) float32."""
    sizes = torch.bincount(classes, minlength=count).float()
    return len(classes) / (count * sizes.clamp(min=1))


def fit_head(
    features: torch.Tensor, classes: torch.Tensor, course: Course, generator: torch.Generator
) -> Iterator[Head]:
    """Learn by Adam on standardised features, and yield the head, in terms of the features as given, after every epoch.

    `features` (n, d), `classes` (n,) int64.
    """
    centre = features.mean(0)
    # Each feature to a spread of 1 / sqrt(d), so that a step moves the logits alike however many features there are.
    spread = features.std(0).clamp(min=1e-3 * float(features.std()) + 1e-8) * features.shape[1] ** 0.5
    standard = (features - centre) / spread
    weight = torch.zeros(len(course.class_weights), features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(len(course.class_weights), device=features.device, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=course.learning_rate, weight_decay=WEIGHT_DECAY)
    for _ in range(course.epochs):
        order = torch.randperm(len(standard), generator=generator)
        for part in torch.split(order, course.batch_size):
            logits = functional.linear(standard[part], weight, bias)
            loss = functional.cross_entropy(logits, classes[part], weight=course.class_weights)
            gradients = torch.autograd.grad(loss, [weight, bias])
            weight.grad, bias.grad = gradients
            optimiser.step()
        yield _undo_standardising(weight.detach(), bias.detach(), centre, spread)


def _undo_standardising(weight: torch.Tensor, bias: torch.Tensor, centre: torch.Tensor, spread: torch.Tensor) -> Head:
    plain = weight / spread
    return Head(plain, bias - plain @ centre)


def judge(logits: torch.Tensor, classes: torch.Tensor, number: int) -> Epoch:
    """Score an epoch on validation images: logits (n, k), classes (n,)."""
    hits = (logits.argmax(1) == classes).float()
    recalls = [hits[classes == one].mean() for one in torch.unique(classes)]
    loss = functional.cross_entropy(logits, classes)
    return Epoch(number, float(loss), float(hits.mean()), float(torch.stack(recalls).mean()))


def tells_left_from_right(features: torch.Tensor, mirrored: torch.Tensor, classes: torch.Tensor) -> bool:
    """Tell whether a mirror image belongs to another label: then mirror images must not be trained on.

    Learns from plain images of one half, and looks whether those of the other half are recognised far worse when
    mirrored; then the halves change places. `features` and `mirrored` are (n, d), `classes` (n,).
    """
    rank_in_class = torch.stack([(classes[:index] == one).sum() for index, one in enumerate(classes)])
    first = rank_in_class % 2 == 0
    weights = torch.ones(int(classes.max()) + 1, device=classes.device)
    course = Course(max(2, MIRROR_VISITS // len(classes)), 0.01, 16, weights)
    plain, flipped = torch.zeros(2, 0, dtype=torch.bool, device=classes.device)
    for learn in (first, ~first):
        *_, head = fit_head(features[learn], classes[learn], course, torch.Generator().manual_seed(0))
        truth = classes[~learn]
        plain = torch.cat([plain, head.score(features[~learn]).argmax(1) == truth])
        flipped = torch.cat([flipped, head.score(mirrored[~learn]).argmax(1) == truth])
    lost, won = int((plain & ~flipped).sum()), int((flipped & ~plain).sum())
    is_much = lost - won > MIRROR_LOSS * len(classes)
    return is_much and (lost - won) ** 2 > MIRROR_SURENESS * (lost + won)  # McNemar (1947): no whim of a few images
