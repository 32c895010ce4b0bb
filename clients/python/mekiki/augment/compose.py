"""Scenes of several parts, pasted onto real backgrounds, with their boxes and masks.

As Dwibedi et al., "Cut, paste and learn", ICCV 2017: soft edges, and light and noise over the whole scene, so that a
network cannot learn the seams.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki import Annotation, AnnotationState, Box
from mekiki.augment.cutout import Part
from mekiki.augment.multiply import number_name
from mekiki.augment.paint import cover_boxes, paint_over
from mekiki.augment.tone import Tone
from mekiki.augment.warp import bound_mask, to_centres
from mekiki.formats import Mark, Picture
from mekiki.formats.picture import list_labels

TRIES = 20
LEAST_SIDE = 6  # pixels; a smaller part is none


@dataclass(frozen=True)
class ComposeOptions:
    """What scenes look like."""

    least_parts: int = 2
    most_parts: int = 8
    turn_deg: float = 180
    """A part is turned by up to so much, either way."""

    zoom: float = 1.25
    """A part is larger or smaller by up to this factor."""

    size: float = 0.3
    """The median part's longer side, as a share of the background's shorter one, at most: larger ones are shrunk, all
    by the same factor, so that they keep their proportions."""

    hidden: float = 0.15
    """Share of a part that others may hide."""

    tone: Tone = field(default_factory=lambda: Tone(light=0.15, colour=0.04, blur_px=0.6, noise=0.01))

    def __post_init__(self) -> None:
        """Raises ValueError for what is out of range."""
        limits = (
            ("least_parts", self.least_parts, 1, self.most_parts),
            ("most_parts", self.most_parts, 1, 200),
            ("turn_deg", self.turn_deg, 0, 180),
            ("zoom", self.zoom, 1, 4),
            ("size", self.size, 0.02, 1),
            ("hidden", self.hidden, 0, 0.9),
        )
        for name, value, least, most in limits:
            if not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, is {value}")


DEFAULT_OPTIONS = ComposeOptions()


def compose_scenes(
    parts: Sequence[Part],
    backgrounds: Iterable[Picture],
    counts: Mapping[str, int],
    options: ComposeOptions = DEFAULT_OPTIONS,
    seed: int = 0,
) -> Iterator[Picture]:
    """On each background as many scenes as its name is counted; what is marked on it is painted over first.

    Scenes are of split train and of the group of their background, and carry the label of most of their parts first.

    Raises:
        ValueError: there are no parts.
    """
    if not parts:
        raise ValueError("there are no parts to paste: none of the boxes could be cut out")
    for background in backgrounds:
        count = counts.get(background.name, 0)
        cleared = clear_picture(background) if count else background
        for number in range(1, count + 1):
            yield _compose(parts, cleared, number, options, seed)


def clear_picture(picture: Picture) -> Picture:
    """The picture without what is marked on it, in colour: painted over from the rim inwards (Telea, 2004)."""
    pixels = picture.pixels if picture.pixels.ndim == 3 else np.repeat(picture.pixels[..., None], 3, axis=2)
    taken = cover_boxes(picture, 0.15)
    if taken.any():
        pixels = paint_over(np.ascontiguousarray(pixels), taken)
    return replace(picture, pixels=pixels, marks=(), mask=None)


def _compose(parts: Sequence[Part], background: Picture, number: int, options: ComposeOptions, seed: int) -> Picture:
    rng = np.random.default_rng([seed, 3, zlib.crc32(background.name.encode("utf-8", "replace")), number])
    scene = _Scene(background.pixels, options.hidden)
    median = float(np.median([part.longer_side for part in parts]))
    shrink = min(1.0, options.size * min(background.width, background.height) / median)
    for _ in range(int(rng.integers(options.least_parts, options.most_parts + 1))):
        part = parts[int(rng.integers(len(parts)))]
        angle = np.deg2rad(rng.uniform(-options.turn_deg, options.turn_deg))
        scene.paste(rng, part, float(angle), float(shrink * options.zoom ** rng.uniform(-1, 1)))
    marks = scene.list_marks()
    return Picture(
        name=number_name(background.name, number),
        pixels=options.tone.apply(rng, scene.finish()),
        marks=marks,
        labels=list_labels(mark.annotation for mark in marks),
        group=background.group or background.name,
        split="train",
    )


class _Scene:
    """A background that parts are pasted onto."""

    def __init__(self, pixels: NDArray[np.uint8], hidden: float) -> None:
        self._canvas: NDArray[np.float32] = pixels.astype(np.float32)
        self._background = pixels
        self._owner = np.zeros(pixels.shape[:2], np.int32)  # whose pixel it is, counted from 1
        self._areas: list[int] = []  # of each part as it was pasted
        self._labels: list[str] = []
        self._hidden = hidden

    def paste(self, rng: np.random.Generator, part: Part, angle: float, scale: float) -> None:
        """Puts a part where it hides no more of others than it may; not at all where a few tries find no place."""
        pixels, alpha = _turn(part, angle, scale)
        height, width = alpha.shape
        room_x, room_y = self._canvas.shape[1] - width, self._canvas.shape[0] - height
        mask = alpha >= 0.5
        if room_x < 0 or room_y < 0 or min(height, width) < LEAST_SIDE or not mask.any():
            return
        for _ in range(TRIES):
            x, y = int(rng.integers(room_x + 1)), int(rng.integers(room_y + 1))
            here = np.s_[y : y + height, x : x + width]
            if self._may_hide(self._owner[here], mask):
                around = float(self._background[here].mean())
                gain = np.clip(around / max(part.around, 1.0), 0.8, 1.25)
                share = alpha[..., None]
                self._canvas[here] = self._canvas[here] * (1 - share) + np.clip(pixels * gain, 0, 255) * share
                self._owner[here][mask] = len(self._areas) + 1
                self._areas.append(int(mask.sum()))
                self._labels.append(part.label)
                return

    def _may_hide(self, owner: NDArray[np.int32], mask: NDArray[np.bool_]) -> bool:
        for number in np.unique(owner[mask]).tolist():
            if number:
                left = int((self._owner == number).sum()) - int((owner[mask] == number).sum())
                if left < (1 - self._hidden) * self._areas[number - 1]:
                    return False
        return True

    def list_marks(self) -> tuple[Mark, ...]:
        """The parts, with the pixels that are seen of them."""
        marks = []
        for number, label in enumerate(self._labels, 1):
            note = Annotation(Box(0, 0, 1, 1), label, source="composed", state=AnnotationState.ACCEPTED)
            marks.append(bound_mask(Mark(note), self._owner == number))
        return tuple(marks)

    def finish(self) -> NDArray[np.uint8]:
        """The pixels, (h, w, 3)."""
        return np.clip(np.rint(self._canvas), 0, 255).astype(np.uint8)


def _turn(part: Part, angle: float, scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The part turned and scaled: pixels (h, w, 3) and alpha (h, w), no larger than its own."""
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    height, width = part.alpha.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ linear.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.maximum(1, np.ceil(high - low)).astype(int)
    matrix = to_centres(np.column_stack([linear, -low]))
    if scale < 0.7:  # linear interpolation skips pixels: smooth them first
        pixels = cv2.GaussianBlur(part.pixels, (0, 0), 0.4 / scale)
        alpha = cv2.GaussianBlur(part.alpha, (0, 0), 0.4 / scale)
    else:
        pixels, alpha = part.pixels, part.alpha
    place = (int(size[0]), int(size[1]))
    turned = cv2.warpAffine(pixels, matrix, place, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    clear = np.asarray(cv2.warpAffine(alpha, matrix, place), np.float32)
    rows, columns = np.flatnonzero((clear >= 0.02).any(axis=1)), np.flatnonzero((clear >= 0.02).any(axis=0))
    if rows.size == 0:
        return turned[:0], clear[:0]
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return turned[inside], clear[inside]
