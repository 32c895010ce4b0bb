"""Synthetic pictures with known answers: a textured spot on noise, at a known place."""

import numpy as np
import numpy.typing as npt
import torch

from services.saliency.recipe import Recipe, Training, TrainingSet, Watch
from services.saliency.train import train_classifier

SIDE = 48
SPOT = 14


def draw(label: str, x: int, y: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A striped or a chequered spot at (x, y) on noise: the two look alike but for their texture."""
    noise = np.random.default_rng(seed).integers(60, 100, (SIDE, SIDE, 3), dtype=np.uint8)
    rows, columns = np.mgrid[0:SPOT, 0:SPOT]
    texture = {"stripes": rows // 2 % 2, "checks": (rows // 4 + columns // 4) % 2}[label]
    noise[y : y + SPOT, x : x + SPOT] = (texture * 250)[..., None]
    return noise


def draw_set(count: int, seed: int = 0, groups: int = 0) -> TrainingSet:
    """`count` pictures of each label, spots anywhere."""
    rng = np.random.default_rng(seed)
    labels = tuple(label for label in ("stripes", "checks") for _ in range(count))
    places = rng.integers(0, SIDE - SPOT, (len(labels), 2))
    pictures = [draw(label, x, y, seed=index) for index, (label, (x, y)) in enumerate(zip(labels, places, strict=True))]
    names = tuple(f"part-{index % groups}" if groups else "" for index in range(len(labels)))
    return TrainingSet(np.stack(pictures), labels, names)


SMALL = Recipe(backbone="small", epochs=20, batch_size=8)


def train(data: TrainingSet, recipe: Recipe = SMALL, watch: Watch | None = None) -> Training:
    return train_classifier(data, recipe, weights=None, device=torch.device("cpu"), watch=watch or Watch())
