"""Pictures of many parts lying about: what an object detector must find, with the truth to the pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mekiki.sample_parts.folder import CIRCUMSTANCES, Box, bound
from mekiki.sample_parts.part import PARTS, Part
from mekiki.sample_parts.picture import render_parts_together
from mekiki.sample_parts.scene import Pose, draw_handheld

CROWD = 200  # number of the random stream, apart from those of pictures of one part
GAP = 6  # units between the circles that hold two parts
TRIES = 40  # places for a part before it is left out


@dataclass(frozen=True)
class Crowd:
    """A picture and what lies in it."""

    pixels: NDArray[np.uint8]  # (size, size, 3) RGB
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]  # left, top, right, bottom: half open, pixels


def render_crowd(index: int, seed: int = 0, most: int = 12, size: int = 512) -> Crowd:
    """Return picture number `index` of up to `most` parts of all kinds, turned anyhow and lying apart.

    Args:
        index: of the picture, 0 or more.
        seed: same seed, same bytes.
        most: parts, at least 1; where there is no room for one, it is left out.
        size: side of the square picture, pixels.
    """
    stream = (seed, CROWD, index)
    rng = np.random.default_rng((*stream, CIRCUMSTANCES))
    scene = draw_handheld(rng)
    placed = _place(rng, most)
    made = render_parts_together(placed, scene, size, stream)
    found = [(part.name, box) for (part, _), mask in zip(placed, made.parts, strict=True) if (box := bound(mask))]
    return Crowd(made.pixels, tuple(name for name, _ in found), tuple(box for _, box in found))


def _place(rng: np.random.Generator, most: int) -> list[tuple[Part, Pose]]:
    """Parts within circles that do not touch; all of about one scale, as a camera sees them."""
    scale = float(rng.uniform(0.2, 0.36))
    placed: list[tuple[Part, Pose]] = []
    circles: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(max(1, most // 2), most + 1))):
        part, own = PARTS[int(rng.integers(len(PARTS)))], scale * float(rng.uniform(0.94, 1.06))
        radius = own * float(np.hypot(*part.extent))
        for _ in range(TRIES):
            x, y = (float(value) for value in rng.uniform(radius, 512 - radius, 2))
            if all(np.hypot(x - a, y - b) > radius + other + GAP for a, b, other in circles):
                circles.append((x, y, radius))
                placed.append((part, Pose(float(rng.uniform(0, 2 * np.pi)), x, y, own)))
                break
    return placed
