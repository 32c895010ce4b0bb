"""How long a mask takes: with and without the dense CRF, beside the plain classifier on the same backbone and size.

Random heads: no time depends on what they learnt. Images are of the network's own size, one at a time, as a line sends
them; a round asks each once, so that what the machine does otherwise hits all alike, and the median is told.
ROUNDS and SIZES choose less.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from services.saliency.backbones import build_network
from services.saliency.model import Classifier
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.network import build_segmentation_network
from services.saliency.segmentation.recipe import Engine, Recipe
from tests.bench.figures import Figures
from tests.bench.judging import BACKBONE, find_backbone

ROUNDS = int(os.environ.get("ROUNDS", "15"))
SIZES = [int(size) for size in os.environ.get("SIZES", "224,512").split(",")]
LABELS = ("blowhole", "break", "crack", "fray", "uneven")


def main() -> None:
    """Measures, prints and writes build/bench/segmentation_speed.json."""
    weights = find_backbone()
    if weights is None:
        return
    figures = Figures("segmentation_speed")
    for side in SIZES:
        times = measure(open_models(side, weights))
        for name, milliseconds in times.items():
            figures.add(f"{name}, {side} px", milliseconds, "ms")
        figures.add(f"refined / classifier, {side} px: images/s", times["classifier"] / times["refined"], "x")
    figures.finish()


def open_models(side: int, weights: Path) -> dict[str, Callable[[], object]]:
    """What is asked, by name."""
    cpu, image = torch.device("cpu"), np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    plain = Classifier(build_network(BACKBONE, len(LABELS), weights=weights, input_size=side), LABELS, cpu)
    sec, refined = (
        Segmenter(
            build_segmentation_network(
                BACKBONE, len(LABELS), input_size=side, stride=recipe.stride, local=recipe.local, weights=weights
            ),
            LABELS,
            cpu,
        )
        for recipe in (Recipe(engine=Engine.SEC), Recipe(engine=Engine.REFINED))
    )
    return {
        "classifier": lambda: plain.classify([image]),
        "sec": lambda: sec.segment(image),
        "refined": lambda: refined.segment(image),
        "refined + CRF": lambda: refined.segment(image, refine=True),
    }


def measure(asked: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(ROUNDS + 1):
        for name, ask in asked.items():
            started = time.perf_counter()
            ask()
            times[name].append((time.perf_counter() - started) * 1000)
    return {name: float(np.median(each[1:])) for name, each in times.items()}


if __name__ == "__main__":
    main()
