"""One training of a segmenter: batches, steps and checkpoints, whatever is learnt from."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from services.runtime.errors import DataLoss
from services.saliency import bundle
from services.saliency.pictures import Pixels
from services.saliency.segmentation.recipe import EPOCHS, Recipe, Watch, count_epochs

PRETRAINED_SHARE = 0.1  # of the learning rate
WEIGHT_DECAY = 1e-3
MOST_GRADIENT = 5.0  # norm over a part
WARM_UP_SHARE = 0.05  # of the steps


class Learner(Protocol):
    """What learns: `fresh` starts from nothing, `pretrained` does not."""

    @property
    def fresh(self) -> dict[str, torch.nn.Parameter]:
        """By name; no name is among `pretrained` too."""

    @property
    def pretrained(self) -> dict[str, torch.nn.Parameter]:
        """By name."""

    @property
    def parts(self) -> Sequence[Sequence[torch.nn.Parameter]]:
        """All that learns, apart where losses are: a part's steep gradient must not shorten another one's steps."""


@dataclass(frozen=True, eq=False)
class SegmentationSet:
    """What there is to learn from.

    Attributes:
        pictures: (n, s, s, 3) uint8, may be a read-only memory map.
        present: which of the k labels each shows, (n, k).
        seeds: what is known of each position, (n, h, w) uint8: BACKGROUND, the n-th label or UNKNOWN.
        odds: how likely each picture is drawn, (n,), adding up to 1; without, each is drawn once an epoch.
    """

    pictures: Pixels
    present: npt.NDArray[np.bool_]
    seeds: npt.NDArray[np.uint8]
    odds: npt.NDArray[np.float64] | None = None


class Course:
    """Goes through the epochs of a training. The same data, recipe and machine give the same network."""

    def __init__(self, learner: Learner, data: SegmentationSet, recipe: Recipe, watch: Watch, phase: str) -> None:
        self.data = data
        self.recipe = recipe
        self._watch = watch
        self._phase = phase
        self._learning = learner.fresh | learner.pretrained
        self._parts = learner.parts
        groups = [
            {"params": list(learner.fresh.values()), "peak": recipe.rate},
            {"params": list(learner.pretrained.values()), "peak": recipe.rate * PRETRAINED_SHARE},
        ]
        self._optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=WEIGHT_DECAY)
        self._epochs = recipe.epochs or count_epochs(EPOCHS, len(data.pictures), recipe.batch_size)
        self._epoch = 0
        self._step = 0

    @classmethod
    def begin(cls, learner: Learner, data: SegmentationSet, recipe: Recipe, watch: Watch, phase: str) -> "Course":
        """Starts, or goes on from `watch.resume`; whether that is of the same training is the caller's to know."""
        course = cls(learner, data, recipe, watch, phase)
        course._resume()
        return course

    def remaining_epochs(self) -> range:
        """Numbers of the epochs that are still to be learnt, from 1."""
        return range(self._epoch + 1, self._epochs + 1)

    def draw_batches(self, epoch: int) -> Iterator[tuple[npt.NDArray[np.int64], bool]]:
        """Batches of picture numbers, and whether they are to be mirrored; chance depends on seed and epoch alone."""
        random = np.random.default_rng((self.recipe.seed, epoch))
        count = len(self.data.pictures)
        odds = self.data.odds
        order = random.permutation(count) if odds is None else random.choice(count, count, p=odds)
        for start in range(0, len(order), self.recipe.batch_size):
            yield np.sort(order[start : start + self.recipe.batch_size]), bool(random.random() < 0.5)

    @property
    def progress(self) -> float:
        """Share of the steps that are taken."""
        return self._step / (self._steps_per_epoch * self._epochs)

    @property
    def device(self) -> torch.device:
        """Where it is learnt."""
        return next(iter(self._learning.values())).device

    def read_pictures(self, batch: npt.NDArray[np.int64], *, mirrored: bool) -> Pixels:
        """Pictures by number, (n, s, s, 3)."""
        pictures = self.data.pictures[batch]
        return np.ascontiguousarray(pictures[:, :, ::-1] if mirrored else pictures)

    def read_seeds(self, batch: npt.NDArray[np.int64], *, mirrored: bool) -> torch.Tensor:
        """What is known of pictures by number, (n, h, w) int64."""
        seeds = self.data.seeds[batch]
        chosen = np.ascontiguousarray(seeds[..., ::-1] if mirrored else seeds)
        return torch.from_numpy(chosen).to(self.device).long()

    def take_step(self, loss: torch.Tensor) -> None:
        """Learns from one loss; warms up and then falls along a cosine (Loshchilov and Hutter, ICLR 2017)."""
        steps = self._steps_per_epoch * self._epochs
        rise = min(1.0, (self._step + 1) / max(1.0, WARM_UP_SHARE * steps))
        fall = 0.5 * (1 + math.cos(math.pi * self._step / steps))
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * rise * fall
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for part in self._parts:
            torch.nn.utils.clip_grad_norm_(part, MOST_GRADIENT)
        self._optimiser.step()
        self._step += 1
        self._watch.report(self._phase, self._step, steps, loss=float(loss.detach()))

    def save(self, epoch: int) -> None:
        """Keeps what there is after an epoch."""
        self._epoch = epoch
        memory = {
            f"memory:{name}/{key}": value.detach().clone()
            for name, parameter in self._learning.items()
            for key, value in self._optimiser.state[parameter].items()
        }
        tensors = {f"current:{name}": parameter.detach().clone() for name, parameter in self._learning.items()}
        self._watch.save(bundle.pack(tensors | memory, {"epoch": epoch}))

    def _resume(self) -> None:
        if self._watch.resume is None:
            return
        try:
            tensors, about = bundle.unpack(self._watch.resume)
        except DataLoss:
            return  # a torn checkpoint costs time, not the training
        self._epoch, self._step = about["epoch"], about["epoch"] * self._steps_per_epoch
        for path, value in tensors.items():
            part, _, rest = path.partition(":")
            if part == "current":
                self._learning[rest].data.copy_(value)
            else:
                name, _, key = rest.rpartition("/")
                parameter = self._learning[name]
                self._optimiser.state[parameter][key] = value.to(parameter.device if value.ndim else "cpu")

    @property
    def _steps_per_epoch(self) -> int:
        return math.ceil(len(self.data.pictures) / self.recipe.batch_size)
