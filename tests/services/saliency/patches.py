"""Synthetic parts with known answers: a disc or a square of one colour, or nothing, on noise."""

from dataclasses import replace

import cv2
import numpy as np
import torch

from services.saliency.recipe import Watch
from services.saliency.segmentation.labelled import LabelledSet
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.recipe import Engine, Recipe
from services.saliency.segmentation.train import train_segmenter

SIDE = 64
LABELS = ("disc", "square")
CPU = torch.device("cpu")


def draw_part(rng, *kinds):
    """(SIDE, SIDE, 3) pixels and (SIDE, SIDE) classes of things of these kinds that do not touch, 0 and 1 of LABELS."""
    pixels = rng.integers(90, 120, (SIDE, SIDE, 3)).astype(np.uint8)
    classes = np.zeros((SIDE, SIDE), np.uint8)
    for place, kind in enumerate(kinds):
        radius = int(rng.integers(8, 12))
        x = int(rng.integers(12, 21)) + 32 * place if len(kinds) > 1 else int(rng.integers(13, SIDE - 13))
        y = int(rng.integers(13, SIDE - 13))
        if kind == 0:
            cv2.circle(classes, (x, y), radius, 1, -1)
        else:
            cv2.rectangle(classes, (x - radius, y - radius), (x + radius, y + radius), 2, -1)
    pixels[classes == 1] = (220, 60, 60)
    pixels[classes == 2] = (60, 60, 220)
    return pixels, classes


def draw_labelled(count, seed=0, both=2):
    """`count` pictures of each kind, as many without any, and some with both."""
    rng = np.random.default_rng(seed)
    kinds = [(0,)] * count + [(1,)] * count + [()] * count + [(1, 0)] * both
    drawn = [draw_part(rng, *shown) for shown in kinds]
    present = np.array([[kind in shown for kind in range(len(LABELS))] for shown in kinds])
    mains = np.array([shown[0] if shown else -1 for shown in kinds], np.int64)
    pictures = np.stack([pixels for pixels, _ in drawn])
    return LabelledSet(pictures, LABELS, present, mains, ("",) * len(kinds))


SMALL = Recipe(backbone="small", epochs=30, learning_rate=0.01, batch_size=4, engine=Engine.SEC)
SHORT = replace(SMALL, epochs=2)


def train_on(
    data: LabelledSet, recipe: Recipe = SMALL, watch: Watch | None = None, base: Segmenter | None = None
) -> Segmenter:
    """On one thread: so small a network waits longer for a second one than it gains."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_segmenter(data, recipe, weights=None, device=CPU, watch=watch or Watch(), base=base)
    finally:
        torch.set_num_threads(threads)


def measure_ious(segmenter, count=12, seed=99, **how):
    """IoU of each class, the background first, on pictures that nobody trained on."""
    rng = np.random.default_rng(seed)
    kinds = [(0,), (1,), (), (1, 0)] * (count // 4)
    shared, either = np.zeros(3), np.zeros(3)
    for shown in kinds:
        pixels, truth = draw_part(rng, *shown)
        found = segmenter.segment(pixels, **how).classes
        for number in range(3):
            shared[number] += ((found == number) & (truth == number)).sum()
            either[number] += ((found == number) | (truth == number)).sum()
    return shared / either
