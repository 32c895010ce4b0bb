"""Many pictures from each of a few."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from mekiki.augment.cutout import find_pixels, is_single
from mekiki.augment.tone import Tone
from mekiki.augment.warp import Matrix, Motion, Shapes, warp_marks, warp_picture
from mekiki.formats import Picture

TRIES = 8
ALMOST_GONE = 0.05
FAR_DEG = 20


@dataclass(frozen=True)
class AugmentOptions:
    """How pictures differ from the one that they are made of."""

    motion: Motion = field(default_factory=Motion)
    tone: Tone = field(default_factory=Tone)
    least_visible: float = 0.4
    """Of a box; one of which less stays inside the picture is dropped. Pictures that would cut a box so are drawn anew,
    a few times, since what is left of the object is there without a box."""

    def __post_init__(self) -> None:
        """Raises ValueError for what is out of range."""
        limits = (
            ("turn_deg", self.motion.turn_deg, 0, 180),
            ("zoom", self.motion.zoom, 1, 4),
            ("shift", self.motion.shift, 0, 0.5),
            ("light", self.tone.light, 0, 0.9),
            ("colour", self.tone.colour, 0, 0.5),
            ("blur_px", self.tone.blur_px, 0, 10),
            ("noise", self.tone.noise, 0, 0.5),
            ("least_visible", self.least_visible, 0, 1),
        )
        for name, value, least, most in limits:
            if not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, is {value}")


DEFAULT_OPTIONS = AugmentOptions()


def share_out(names: Sequence[str], total: int, seed: int = 0) -> dict[str, int]:
    """How many pictures are made of each, as evenly as can be; who gets one more is drawn from the seed.

    Raises:
        ValueError: there are no names, or one twice, or the total is less than 1.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError("pictures to make others of must be there, and each have a name of its own")
    if total < 1:
        raise ValueError(f"the number of pictures must be at least 1, is {total}")
    more = np.random.default_rng([seed, 1]).permutation(len(names))[: total % len(names)]
    counts = np.full(len(names), total // len(names))
    counts[more] += 1
    return dict(zip(names, counts.tolist(), strict=True))


def augment_pictures(
    pictures: Iterable[Picture], counts: Mapping[str, int], options: AugmentOptions = DEFAULT_OPTIONS, seed: int = 0
) -> Iterator[Picture]:
    """Of each picture as many as its name is counted, the first of them as it is.

    All are of split train and of their original's group, or of one by its name: copies of one picture belong on one
    side of any split.
    """
    for picture in pictures:
        count = counts.get(picture.name, 0)
        shapes = guess_shapes(picture, options) if count > 1 else ()
        for number in range(count):
            made = _augment(picture, number, options, seed, shapes) if number else picture
            yield replace(made, split="train", group=picture.group or picture.name)


def augment_picture(picture: Picture, number: int, options: AugmentOptions = DEFAULT_OPTIONS, seed: int = 0) -> Picture:
    """The picture of that number made of one; the same for the same seed, name and number."""
    return _augment(picture, number, options, seed, guess_shapes(picture, options))


def guess_shapes(picture: Picture, options: AugmentOptions) -> Shapes:
    """For marks without a mask in pictures that turn far, which pixels of their boxes are probably the object's.

    A long part that lies askew fills its box badly, and a turned box worse.
    """
    if options.motion.turn_deg < FAR_DEG:
        return [None] * len(picture.marks)
    return [find_pixels(picture, mark) if is_single(picture, mark) else None for mark in picture.marks]


def _augment(picture: Picture, number: int, options: AugmentOptions, seed: int, shapes: Shapes) -> Picture:
    rng = np.random.default_rng([seed, zlib.crc32(picture.name.encode("utf-8", "replace")), number])
    matrix = _draw_motion(rng, picture, options, shapes)
    moved = warp_picture(picture, matrix, options.least_visible, shapes)
    return replace(moved, name=number_name(picture.name, number), pixels=options.tone.apply(rng, moved.pixels))


def _draw_motion(rng: np.random.Generator, picture: Picture, options: AugmentOptions, shapes: Shapes) -> Matrix:
    """A motion that leaves no object cut but unmarked, as far as a few tries find one."""
    for _ in range(TRIES):
        matrix = options.motion.draw(rng, picture.width, picture.height)
        kept = len(warp_marks(picture, matrix, options.least_visible, shapes))
        if kept == len(warp_marks(picture, matrix, ALMOST_GONE, shapes)) and (kept or not picture.marks):
            break
    return matrix


def number_name(name: str, number: int) -> str:
    """The name of a picture made of one of that name: "a/b.png" is "a/b-0007.png"."""
    path = PurePosixPath(name)
    is_file = path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
    stem, ending = (name.removesuffix(path.suffix), path.suffix) if is_file else (name, "")
    return f"{stem}-{number:04d}{ending}"
