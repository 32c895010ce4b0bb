"""Synthetic scenes with known answers: squares and discs of one colour each, on noise."""

import cv2
import numpy as np
import torch

from services.saliency.detection.average_precision import Found, Truth, measure_precision
from services.saliency.detection.model import detect_in_pictures
from services.saliency.detection.recipe import PictureSet, Recipe
from services.saliency.detection.train import Training, train_object_detector
from services.saliency.recipe import Watch

SIDE = 64
LABELS = ("disc", "square")


def draw_scene(rng, count):
    """(SIDE, SIDE, 3) pixels, boxes (n, 4) and classes (n,) of up to `count` things that do not touch."""
    pixels = rng.integers(90, 120, (SIDE, SIDE, 3)).astype(np.uint8)
    boxes, classes = [], []
    for _ in range(count):
        kind, radius = int(rng.integers(2)), int(rng.integers(6, 12))
        x, y = (int(value) for value in rng.integers(radius, SIDE - radius, 2))
        box = [x - radius, y - radius, x + radius + 1, y + radius + 1]
        if any(max(abs(x - (b[0] + b[2]) / 2), abs(y - (b[1] + b[3]) / 2)) < 24 for b in boxes):
            continue
        if LABELS[kind] == "disc":
            cv2.circle(pixels, (x, y), radius, (220, 60, 60), -1)
        else:
            cv2.rectangle(pixels, (box[0], box[1]), (box[2] - 1, box[3] - 1), (60, 60, 220), -1)
        boxes.append(box)
        classes.append(kind)
    return pixels, np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64)


def draw_singles(count, seed=0):
    """`count` pictures of one thing each, and two of none."""
    rng = np.random.default_rng(seed)
    made = [draw_scene(rng, 1 if number < count else 0) for number in range(count + 2)]
    pixels, boxes, classes = zip(*made, strict=True)
    extents = np.full((len(made), 2), SIDE)
    return PictureSet(np.stack(pixels), extents, boxes, classes, LABELS, ("",) * len(made))


SMALL = Recipe(backbone="small", epochs=50, learning_rate=0.005, batch_size=4)


def train_on(data: PictureSet, recipe: Recipe = SMALL, watch: Watch | None = None) -> Training:
    """On one thread: so small a network waits longer for a second one than it gains."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_object_detector(data, recipe, weights=None, device=torch.device("cpu"), watch=watch or Watch())
    finally:
        torch.set_num_threads(threads)


def measure(network, count=20, things=4, seed=99):
    """mAP on scenes of several things, which nobody trained on."""
    rng = np.random.default_rng(seed)
    scenes = [draw_scene(rng, things) for _ in range(count)]
    found: list[Found] = detect_in_pictures(network, [pixels for pixels, _, _ in scenes])
    return measure_precision([Truth(boxes, classes) for _, boxes, classes in scenes], found)
