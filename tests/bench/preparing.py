"""Sets of images prepared in this process, as codec does it, one way or another."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.background import Remover, open_remover
from services.codec.medoid import choose_medoid
from services.codec.options import AlignmentMethod
from services.codec.order import describe, order_by_likeness
from services.codec.prepare import Blanking, Placement, Placer, Recipe, make_recipe, prepare
from services.codec.reference import default_margin, open_reference
from services.codec.video import decode_video
from services.codec.video_encode import Rate, encode_lossy

Picture = NDArray[np.uint8]  # (h, w) or (h, w, 3)
CONTRAST = open_remover("contrast", None, Path("/"))


@dataclass(frozen=True)
class Way:
    """One way to prepare a set; the first picture is the reference, unless the medoid is wanted."""

    name: str
    alignment: AlignmentMethod = "none"
    remover: Remover | None = None
    blank: Blanking = "none"
    crop: bool = False
    ordered: bool = False
    medoid: bool = False
    side: int = 0


PLAIN = Way("HEVC only")
ALIGNED = Way("aligned", "pose", CONTRAST)
CUT_OUT = Way("background removed", "none", CONTRAST, "own")
BOTH = Way("aligned, background removed", "pose", CONTRAST, "union")
OURS = Way("as codec does it", "pose", CONTRAST, "union", crop=True, ordered=True, medoid=True)


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """Prepared pictures, and what prepares others like them."""

    frames: list[Picture]
    placements: list[Placement]
    placer: Placer
    recipe: Recipe
    seconds: float

    def prepare(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Prepares other pictures, as test images are."""
        return [prepare(one, self.placer.place(one), self.recipe).image for one in pictures]

    @property
    def aligned_share(self) -> float:
        """Share of the pictures that aligned."""
        return float(np.mean([placement.alignment.aligned for placement in self.placements]))


def read_pictures(folder: Path) -> list[Picture]:
    """Reads all images of a folder by name, grey ones as such."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    read = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    return [one if one.ndim == 2 else cv2.cvtColor(one, cv2.COLOR_BGR2RGB) for one in read if one is not None]


def prepare_set(pictures: list[Picture], way: Way) -> PreparedSet:
    """Prepares a set; its time is that of placing and drawing, without choosing the reference and ordering."""
    reference = open_reference(pictures[_choose(pictures, way)], way.remover)
    placer = Placer(reference, way.alignment, way.remover, crop=way.crop)
    start = time.perf_counter()
    placements = [placer.place(picture) for picture in pictures]
    margin = default_margin(placer.reference)
    recipe = make_recipe(placer, _unite(placer, placements), way.blank, margin, way.side)
    frames = [prepare(picture, place, recipe).image for picture, place in zip(pictures, placements, strict=True)]
    seconds = time.perf_counter() - start
    if way.ordered:
        size = (placer.canvas_width, placer.canvas_height)
        small = [describe(one, place.alignment.affine, *size) for one, place in zip(pictures, placements, strict=True)]
        frames = [frames[number] for number in order_by_likeness(np.stack(small))]
    return PreparedSet(frames, placements, placer, recipe, seconds)


def compress(frames: list[Picture], rate: Rate) -> tuple[int, list[Picture]]:
    """Encodes frames; returns the bytes, and the frames as they come back."""
    video = encode_lossy(frames, rate)
    return len(video.data), list(decode_video(video))


def _choose(pictures: list[Picture], way: Way) -> int:
    if not way.medoid:
        return 0
    named = {str(number): picture for number, picture in enumerate(pictures)}
    chosen = choose_medoid(
        list(named), named.get, lambda pixels: Placer(open_reference(pixels, way.remover), way.alignment, way.remover)
    )
    return int(chosen or 0)


def _unite(placer: Placer, placements: list[Placement]) -> NDArray[np.bool_] | None:
    masks = [mask for mask in map(placer.draw_mask, placements) if mask is not None]
    return np.logical_or.reduce(masks) if masks else None
