"""Masks from labels alone, of small, medium and large objects: rendered parts, whose true masks are exact.

One segmenter learns from single parts of all sizes, a label each, and from bare tables; it is judged on pictures that
were made with other seeds. COUNT (pictures to learn from), SIDE (pixels) and EPOCHS make a run shorter.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from mekiki.sample_parts.part import PARTS
from mekiki.sample_parts.picture import render_picture
from mekiki.sample_parts.scene import draw_handheld
from services.saliency.segmentation.recipe import Engine, Recipe, Watch
from services.saliency.segmentation.train import train_segmenter
from tests.bench.figures import Figures
from tests.bench.judging import find_backbone
from tests.bench.segmentation import EPOCHS, SIDE, Tile, draw_sheet, gather, mark, paint

COUNT = int(os.environ.get("COUNT", "360"))
TESTS, SHOWN = 90, 18
SIZES = {"small": 0.25, "medium": 0.5, "large": 1.0}  # of the part, beside one that somebody holds out to a camera
EMPTY_EVERY = 4  # one of so many pictures to learn from shows nothing
LEARNING, TESTING = 11, 12  # seeds
LEAST = 0.5  # of the IoU of large ones, that of small ones


def main() -> None:
    """Measures, prints and writes build/bench/segmentation_sizes.json and a sheet of pictures."""
    weights = find_backbone()
    if weights is None:
        return
    torch.set_flush_denormal(True)
    figures = Figures("segmentation_sizes")
    labels = tuple(sorted(part.name for part in PARTS))
    learning = [tile for _, tile in render(LEARNING, COUNT, EMPTY_EVERY)]
    tests = list(render(TESTING, TESTS, 0))
    sheet = [[paint(tile.pixels, mark(tile, labels)) for _, tile in tests[:SHOWN]]]
    for engine in map(Engine, os.environ.get("ENGINES", "sec,refined").split(",")):
        made = train_segmenter(
            gather(learning, labels, drawn=False),
            Recipe(epochs=EPOCHS, engine=engine),
            weights=weights,
            device=torch.device("cpu"),
            watch=Watch(lambda *_, **__: None, lambda _: None, None),
        )
        found = [made.segment(tile.pixels).classes for _, tile in tests]
        ious = {}
        for size in SIZES:
            pairs = [
                (classes == labels.index(tile.label) + 1, tile.mask)
                for classes, (own, tile) in zip(found, tests, strict=True)
                if own == size
            ]
            either = sum(int((one | other).sum()) for one, other in pairs)
            ious[size] = sum(int((one & other).sum()) for one, other in pairs) / either
            area = float(np.mean([wanted.mean() for _, wanted in pairs]))
            figures.add(f"{engine}, {size} parts ({area:.1%} of a picture): IoU of the right label", ious[size], "")
        figures.add(f"{engine}: small / large", ious["small"] / max(ious["large"], 1e-9), "x", LEAST)
        sheet.append([paint(tile.pixels, classes) for classes, (_, tile) in zip(found, tests[:SHOWN], strict=False)])
    draw_sheet("parts", sheet)
    figures.finish()


def render(seed: int, count: int, empty_every: int) -> Iterator[tuple[str, Tile]]:
    """Size and picture of single parts, kinds and sizes in turn."""
    for number in range(count):
        part = None if empty_every and number % empty_every == 0 else PARTS[number % len(PARTS)]
        size = list(SIZES)[number // len(PARTS) % len(SIZES)]
        rng = np.random.default_rng((seed, number))
        scene = draw_handheld(rng)
        scale = scene.pose.scale * SIZES[size]
        room = 250 - 200 * scale
        x, y = 256 + rng.uniform(-room, room, 2)
        scene = replace(scene, pose=replace(scene.pose, scale=scale, x=float(x), y=float(y)))
        made = render_picture(part, "", scene, SIDE, (seed, number))
        yield size, Tile(made.pixels, part.name if part else "", made.part)


if __name__ == "__main__":
    main()
