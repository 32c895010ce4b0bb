"""Learning to detect: pictures made anew in every epoch, weights averaged on the way, the best epoch kept.

1. Of every item a picture is made, whole or of several (`compose.py`); threads make those of the next step meanwhile.
2. AdamW on the losses of FCOS, warmed up and then falling along a cosine (Loshchilov and Hutter, ICLR 2017 and 2019).
3. The weights that are judged and kept are a running mean over steps (Polyak and Juditsky, 1992), which few and small
   batches need most.
4. Each epoch is judged by its mean average precision on the held-out items and on scenes composed of them.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from services.runtime.errors import InvalidArgument
from services.saliency.detection.average_precision import Truth, measure_precision
from services.saliency.detection.compose import Composer, Picture
from services.saliency.detection.model import ObjectDetector, detect_in_pictures, to_tensor
from services.saliency.detection.network import DetectionNetwork, build_detection_network
from services.saliency.detection.recipe import Epoch, PictureSet, Recipe, Watch
from services.saliency.detection.state import (
    State,
    Tensors,
    copy_learning,
    fingerprint_training,
    load_learning,
    read_checkpoint,
    write_checkpoint,
)
from services.saliency.split import Split, split_validation

PRETRAINED_SHARE = 0.1  # of the learning rate
WEIGHT_DECAY = 1e-2
MOST_GRADIENT = 10.0  # norm over all that learns
WARM_UP_SHARE = 0.05  # of the steps
LONGEST_MEAN = 0.995  # of the averaged weights' past, at each step
COMPOSERS = 4  # threads
MOST_JUDGED = 60  # held-out items, and as many scenes
SCENE_SEED = 7  # of the scenes that epochs are judged on, the same for all
PHASE = "training the object detector"


@dataclass(frozen=True)
class Training:
    """A trained detector, still on the training's device, and how it came about."""

    detector: ObjectDetector
    split_by: str
    train_count: int
    validation_count: int
    box_count: int
    best: Epoch
    history: tuple[Epoch, ...]


@dataclass(frozen=True, eq=False)
class _Course:
    """What does not change during a training."""

    network: DetectionNetwork
    recipe: Recipe
    watch: Watch
    composer: Composer
    training: npt.NDArray[np.int64]  # indices of the items to learn from
    judged: tuple[Picture, ...]
    rounds: int
    optimiser: torch.optim.Optimizer

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.training) / self.recipe.batch_size)


def train_object_detector(
    data: PictureSet, recipe: Recipe, *, weights: Path | None, device: torch.device, watch: Watch
) -> Training:
    """Train a detector. The same data, recipe and machine give the same network.

    `weights` is the backbone's safetensors file, None for the small network. `watch.resume` continues an interrupted
    training exactly; a checkpoint of other data or another recipe is ignored.
    Raises InvalidArgument where fewer than two items have boxes, and what `watch.report` raises.
    """
    split = _split(data, recipe)
    course = _open_course(data, recipe, split, weights, device, watch)
    fingerprint = fingerprint_training(data, recipe, weights.read_bytes() if weights else b"")
    state = read_checkpoint(watch, fingerprint, device) or _begin(course.network)
    load_learning(course.network, state.current)
    _load_momenta(course, state.momenta)
    for number in range(len(state.history) + 1, course.rounds + 1):
        state = _fit_epoch(course, state, number)
        write_checkpoint(watch, fingerprint, state)
    load_learning(course.network, state.kept)
    boxes = sum(len(data.classes[item]) for item in course.training)
    counts = len(course.training), int(split.held_out.sum()), boxes
    best = max(state.history, key=lambda epoch: epoch.rank)
    detector = ObjectDetector(course.network, data.labels, device)
    return Training(detector, split.by, *counts, best, state.history)


def _split(data: PictureSet, recipe: Recipe) -> Split:
    """Hold out items of every first label, and of those without objects."""
    with_boxes = sum(len(classes) > 0 for classes in data.classes)
    if with_boxes < 2:
        raise InvalidArgument("items", f"must hold two items with boxes or more, hold {with_boxes}")
    firsts = np.array([classes[0] if len(classes) else len(data.labels) for classes in data.classes], np.int64)
    _, numbers = np.unique(firsts, return_inverse=True)
    return split_validation(numbers.astype(np.int64), data.groups, recipe.validation_fraction, recipe.seed, None)


def _open_course(
    data: PictureSet, recipe: Recipe, split: Split, weights: Path | None, device: torch.device, watch: Watch
) -> _Course:
    training, held_out = np.flatnonzero(~split.held_out), np.flatnonzero(split.held_out)
    if not any(len(data.classes[item]) for item in training):
        raise InvalidArgument(
            "items", "must leave items with boxes to learn from when some are held out; there are none"
        )
    size = int(data.pixels.shape[1])
    network = build_detection_network(
        recipe.backbone, len(data.labels), input_size=size, weights=weights, seed=recipe.seed
    )
    network.module.to(device)
    groups = [
        {"params": list(network.fresh.values()), "peak": recipe.learning_rate},
        {"params": list(network.pretrained.values()), "peak": recipe.learning_rate * PRETRAINED_SHARE},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=WEIGHT_DECAY)
    composer = Composer(data, training, recipe.scene_share, upright=recipe.upright)
    judged = _compose_judged(data, held_out if len(held_out) else training, recipe)
    return _Course(network, recipe, watch, composer, training, judged, recipe.count_rounds(len(training)), optimiser)


def _compose_judged(data: PictureSet, pool: npt.NDArray[np.int64], recipe: Recipe) -> tuple[Picture, ...]:
    """Held-out items as they are, and scenes of them; where nothing could be held out, of those trained on."""
    rng = np.random.default_rng(SCENE_SEED)
    chosen = rng.permutation(pool)[:MOST_JUDGED]
    plain = [Picture(np.asarray(data.pixels[item]), data.boxes[item], data.classes[item]) for item in chosen]
    if not any(len(data.classes[item]) for item in pool) or not recipe.scene_share:
        return tuple(plain)
    composer = Composer(data, pool, 1.0, upright=recipe.upright)
    return (*plain, *(composer.compose(int(item), rng) for item in chosen))


def _begin(network: DetectionNetwork) -> State:
    start = copy_learning(network)
    return State((), start, start, start, {})


def _fit_epoch(course: _Course, state: State, number: int) -> State:
    """One round over the items. Its chances depend on seed and number alone, so that it can be resumed."""
    averaged = {name: tensor.clone() for name, tensor in state.averaged.items()}
    losses = []
    done = (number - 1) * course.steps_per_epoch
    for step, batch in enumerate(_compose_batches(course, number), start=done):
        _set_learning_rate(course, step)
        losses.append(_take_step(course.network, course.optimiser, batch))
        _average(course.network, averaged, step)
        _report(course, step + 1, state.history, losses[-1])
    current = copy_learning(course.network)
    load_learning(course.network, averaged)
    epoch = _judge(course, number, float(np.mean(losses)))
    load_learning(course.network, current)
    return state.advance(epoch, current, averaged, _copy_momenta(course))


def _compose_batches(course: _Course, number: int) -> Iterator[list[Picture]]:
    """Batches of pictures, each made in threads while the one before is learnt from."""
    order = np.random.default_rng((course.recipe.seed, number)).permutation(course.training)
    size = course.recipe.batch_size

    def compose(place: int) -> Picture:
        rng = np.random.default_rng((course.recipe.seed, number, place))
        return course.composer.compose(int(order[place]), rng)

    with ThreadPoolExecutor(COMPOSERS, thread_name_prefix="compose") as pool:
        coming = [pool.submit(compose, place) for place in range(min(size, len(order)))]
        for start in range(0, len(order), size):
            ready, following = coming, range(start + size, min(start + 2 * size, len(order)))
            coming = [pool.submit(compose, place) for place in following]
            yield [future.result() for future in ready]


def _take_step(network: DetectionNetwork, optimiser: torch.optim.Optimizer, batch: list[Picture]) -> float:
    device = network.device
    targets = [
        {"boxes": torch.from_numpy(made.boxes).to(device), "labels": torch.from_numpy(made.classes).to(device)}
        for made in batch
    ]
    loss = torch.stack(
        list(network.compute_losses(to_tensor([made.pixels for made in batch], device), targets).values())
    )
    optimiser.zero_grad(set_to_none=True)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    learning = [*network.fresh.values(), *network.pretrained.values()]
    torch.nn.utils.clip_grad_norm_(learning, MOST_GRADIENT)
    optimiser.step()
    return float(loss.detach().sum())


def _average(network: DetectionNetwork, averaged: Tensors, step: int) -> None:
    past = min(LONGEST_MEAN, (1 + step) / (10 + step))
    learning = network.fresh | network.pretrained
    with torch.no_grad():
        for name, tensor in averaged.items():
            tensor.lerp_(learning[name], 1 - past)


def _set_learning_rate(course: _Course, step: int) -> None:
    steps = course.rounds * course.steps_per_epoch
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP_SHARE * steps))
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in course.optimiser.param_groups:
        group["lr"] = group["peak"] * rise * fall


def _judge(course: _Course, number: int, loss: float) -> Epoch:
    course.network.module.eval()
    found = detect_in_pictures(course.network, [picture.pixels for picture in course.judged])
    precision = measure_precision([Truth(one.boxes, one.classes) for one in course.judged], found)
    return Epoch(number, loss, precision.mean, precision.mean_50)


def _report(course: _Course, done: int, history: tuple[Epoch, ...], loss: float) -> None:
    total = course.rounds * course.steps_per_epoch
    if not history:
        course.watch.report(PHASE, done, total, loss=loss)
        return
    best = max(history, key=lambda epoch: epoch.rank)
    course.watch.report(
        PHASE,
        done,
        total,
        loss=loss,
        mean_average_precision=history[-1].mean_average_precision,
        mean_average_precision_50=history[-1].mean_average_precision_50,
        best_mean_average_precision=best.mean_average_precision,
    )


def _copy_momenta(course: _Course) -> Tensors:
    """Copy the optimiser's memory, by tensor and by what it remembers of it."""
    learning = course.network.fresh | course.network.pretrained
    return {
        f"{name}/{key}": value.detach().clone()
        for name, parameter in learning.items()
        for key, value in course.optimiser.state[parameter].items()
    }


def _load_momenta(course: _Course, momenta: Tensors) -> None:
    learning = course.network.fresh | course.network.pretrained
    for path, value in momenta.items():
        name, _, key = path.rpartition("/")
        course.optimiser.state[learning[name]][key] = value.clone()
