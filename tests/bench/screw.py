"""How small the screws become, step by step (MVTec AD screw, the 200 normal images of `screw/train/good`).

Every video is HEVC, x265 preset medium, CRF 28, grey, GOP 16, so that the sizes differ by the preparation alone.
"plain" is the peer: the images as they are. The exact copy is compared with the PNG files as they lie on disk.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.background import Remover, open_remover
from services.codec.options import AlignmentMethod
from services.codec.order import describe, order_by_likeness
from services.codec.prepare import Blanking, Placement, Placer, make_recipe, prepare
from services.codec.reference import default_margin, open_reference
from services.codec.video import decode_video, encode_exact, encode_lossy
from tests.bench.detectors import find_data
from tests.bench.figures import Figures

CRF, GOP = 28, 16
ROOT = Path(__file__).resolve().parents[2]
CONTRAST = open_remover("contrast", None, ROOT)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Way:
    """One way to prepare a set."""

    name: str
    alignment: AlignmentMethod
    remover: Remover | None
    blank: Blanking
    crop: bool
    order: bool


WAYS = (
    Way("plain HEVC", "none", None, "none", crop=False, order=False),
    Way("aligned", "pose", CONTRAST, "none", crop=False, order=False),
    Way("background removed", "none", CONTRAST, "own", crop=False, order=False),
    Way("both, uncropped", "pose", CONTRAST, "union", crop=False, order=False),
    Way("both", "pose", CONTRAST, "union", crop=True, order=False),
    Way("both, ordered", "pose", CONTRAST, "union", crop=True, order=True),
)
BASELINE = Way("both by AKAZE, as the original tool", "akaze", CONTRAST, "union", crop=False, order=False)


@dataclass(frozen=True)
class Outcome:
    """What a way cost and brought."""

    bytes: int
    aligned_share: float
    milliseconds_per_image: float


def main() -> None:
    """Measures, prints and writes build/bench/screw.json."""
    folder = find_data("screw") / "train" / "good"
    if not folder.is_dir():
        print(f"skipped: {folder} does not exist (set MEKIKI_TEST_DATA)")
        return
    paths = sorted(folder.glob("*.png"))
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    figures = Figures("screw")
    add_sizes(figures, pictures, sum(path.stat().st_size for path in paths))
    figures.finish()


def add_sizes(figures: Figures, pictures: list[Picture], png_bytes: int) -> None:
    """Adds the sizes of every way, and of the exact copy."""
    figures.add("PNG", png_bytes / 1000, "KB")
    plain = measure(pictures, WAYS[0]).bytes
    figures.add("plain HEVC", plain / 1000, "KB")
    for way in (*WAYS[1:], BASELINE):
        outcome = measure(pictures, way)
        goal = 55.0 if way.name in ("both", "both, ordered") else None
        figures.add(f"{way.name}, of plain HEVC", 100 * outcome.bytes / plain, "%", goal, "lower")
        if way.name in ("both", BASELINE.name):
            figures.add(f"{way.name}: aligned", 100 * outcome.aligned_share, "%")
            figures.add(f"{way.name}: preparing an image", outcome.milliseconds_per_image, "ms")
        if way.name == "both, ordered":
            figures.add("PNG, times both ordered", png_bytes / outcome.bytes, "x")
    add_exact(figures, pictures, png_bytes)


def add_exact(figures: Figures, pictures: list[Picture], png_bytes: int) -> None:
    """Adds what an exact copy takes, checked pixel by pixel."""
    video = encode_exact(pictures)
    exact = all(np.array_equal(one, other) for one, other in zip(pictures, decode_video(video), strict=True))
    figures.add("exact copy (FFV1), of PNG", 100 * len(video.data) / png_bytes, "%", 100.0, "lower")
    figures.add("exact copy, every pixel as it was", float(exact), "yes=1", 1.0)


def measure(pictures: list[Picture], way: Way) -> Outcome:
    """Prepares and encodes all pictures one way; the first one is the reference."""
    start = time.perf_counter()
    frames, aligned_share = prepare_set(pictures, way)
    spent = time.perf_counter() - start
    return Outcome(len(encode_lossy(frames, CRF, GOP).data), aligned_share, 1000 * spent / len(pictures))


def prepare_set(pictures: list[Picture], way: Way) -> tuple[list[Picture], float]:
    """Returns the prepared pictures and the share of them that aligned."""
    reference = open_reference(pictures[0], way.remover)
    placer = Placer(reference, way.alignment, way.remover, crop=way.crop)
    placements = [placer.place(picture) for picture in pictures]
    recipe = make_recipe(placer, unite(placer, placements), way.blank, default_margin(reference))
    frames = [prepare(picture, place, recipe).image for picture, place in zip(pictures, placements, strict=True)]
    if way.order:
        size = (placer.canvas_width, placer.canvas_height)
        small = [describe(one, place.alignment.affine, *size) for one, place in zip(pictures, placements, strict=True)]
        frames = [frames[number] for number in order_by_likeness(np.stack(small))]
    return frames, float(np.mean([placement.alignment.aligned for placement in placements]))


def unite(placer: Placer, placements: list[Placement]) -> NDArray[np.bool_] | None:
    """Returns the union of the parts' masks on the canvas."""
    union: NDArray[np.bool_] | None = None
    for mask in map(placer.draw_mask, placements):
        if mask is not None:
            union = mask if union is None else union | mask
    return union


if __name__ == "__main__":
    main()
