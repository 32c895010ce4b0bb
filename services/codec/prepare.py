"""Makes images comparable: one pose, one frame, the background blanked. The same for training and test images.

A `Placer` knows the reference and brings images onto a canvas around it, on which the reference's part lies with its
longer axis horizontal. Once all images of a set are placed, `make_recipe` takes the union of their masks, widens it by
a margin, and cuts the canvas down to it. A `Recipe` with a `Placer` then prepares any image, then or later.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.align import Aligner, Alignment, Transform, refuse
from services.codec.align.akaze import AkazeAligner
from services.codec.align.pose import PoseAligner
from services.codec.background import Image, Remover, find_border_colour
from services.codec.geometry import (
    IDENTITY,
    Affine,
    Mask,
    apply,
    compose,
    cut_and_scale,
    find_axis,
    find_bounds,
    measure_overlap,
    rotate,
    scale_of,
    warp_mask,
)
from services.codec.options import USUAL_TRANSFORM, AlignmentMethod
from services.codec.reference import Reference, to_eight_bits
from services.codec.video_encode import LEAST_LOSSY_SIDE
from services.runtime.errors import InvalidArgument

Blanking = Literal["union", "own", "none"]

_CANVAS_MARGIN = 0.25
_FRAME_STEP = 16  # HEVC's blocks; also keeps both sides even, which 4:2:0 needs


class View(NamedTuple):
    """What an image is turned into before it is placed: bits that count, channels, whether its part is sought."""

    bits: int
    channels: int
    is_cut_out: bool


@dataclass(frozen=True, eq=False)
class Placement:
    """How an image lies on the canvas.

    Attributes:
        alignment: from the image's pixels to the canvas; the identity when it did not align.
        mask: of its part, in its own pixels; None where no background is removed.
    """

    alignment: Alignment
    mask: Mask | None


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is done to every image once it is placed.

    Attributes:
        frame: from the canvas to the prepared image.
        width, height: of the prepared image, pixels.
        mask: (height, width), what is kept; None where nothing is blanked by it.
        blank: "union" (by `mask`), "own" (by each image's own mask), or "none".
        fill: colour outside, one value a channel.
    """

    frame: Affine
    width: int
    height: int
    mask: Mask | None
    blank: Blanking
    fill: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared image and how it came about: `alignment.affine` maps the original's pixels to its own."""

    image: Image
    alignment: Alignment


class Placer:
    """Brings images onto the reference's canvas. Safe to use from several threads."""

    def __init__(
        self,
        reference: Reference,
        alignment: AlignmentMethod,
        remover: Remover | None,
        transform: Transform | None = None,
        *,
        crop: bool = True,
        room: tuple[int, int] = (0, 0),
    ) -> None:
        """Takes the reference, the method, what finds the parts (None: nothing), what a map may do (None: the usual).

        With `crop` the canvas lies around the reference's part, turned, to be cut down; else it is the reference's own
        frame. Where nothing is aligned, it always is, or as large as the `room` (width, height), if that is larger.

        Raises:
            InvalidArgument: pose without background removal.
        """
        if alignment == "pose" and reference.mask is None:
            raise InvalidArgument("alignment", "must be akaze or none where background removal is none, is pose")
        self.reference = reference
        self.view = View(reference.bits, 1 if reference.image.ndim == 2 else 3, remover is not None)
        self.crop = crop and alignment != "none" and reference.mask is not None
        self._remover = remover
        self._aligner = _open_aligner(reference, alignment, transform or USUAL_TRANSFORM[alignment])
        self.canvas, width, height = _lay_canvas(reference, turn=self.crop)
        self.canvas_width, self.canvas_height = max(width, room[0]), max(height, room[1])

    def convert(self, pixels: NDArray[Any]) -> Image:
        """Returns the image in the reference's depth and channels."""
        return to_eight_bits(pixels, self.view.bits, self.view.channels)

    def find_part(self, image: Image) -> Mask | None:
        """Returns the part's mask in a converted image; None where no background is removed."""
        return self._remover.find_part(image) if self._remover else None

    def place(self, image: Image, mask: Mask | None = None) -> Placement:
        """Finds how a converted image lies on the canvas, given its part's mask where that was found already."""
        mask = self.find_part(image) if mask is None else mask
        if self._aligner is None:
            return Placement(self._leave(image, mask), mask)
        found = self._aligner.align(image, np.ones(image.shape[:2], bool) if mask is None else mask)
        affine = compose(found.affine, self.canvas) if found.aligned else IDENTITY
        return Placement(Alignment(affine, found.aligned, found.score, found.reason), mask)

    def draw_mask(self, placement: Placement) -> Mask | None:
        """Returns an aligned part's mask on the canvas; None for one that did not align or has none."""
        if placement.mask is None or not placement.alignment.aligned:
            return None
        return warp_mask(placement.mask, placement.alignment.affine, self.canvas_width, self.canvas_height)

    def _leave(self, image: Image, mask: Mask | None) -> Alignment:
        (height, width), room = image.shape[:2], (self.canvas_width, self.canvas_height)
        if width > room[0] or height > room[1]:
            return refuse(f"it has {width} x {height} pixels, the largest that was seen {room[0]} x {room[1]}")
        known = self.reference.mask
        score = 0.0 if mask is None or known is None or mask.shape != known.shape else measure_overlap(mask, known)
        middle = np.array([[1.0, 0.0, (room[0] - width) // 2], [0.0, 1.0, (room[1] - height) // 2]])
        return Alignment(middle, aligned=True, score=score, reason="")


def make_recipe(placer: Placer, union: Mask | None, blank: Blanking, margin: int, side: int = 0) -> Recipe:
    """Makes the recipe of a set whose parts' masks, on the canvas, are united.

    Args:
        placer: knows the canvas.
        union: of the masks, (canvas_height, canvas_width); None where no background is removed.
        blank: what is blanked; without a union nothing is.
        margin: pixels by which the union is widened.
        side: frames that are longer are shrunk to it, pixels; 0: none is.
    """
    frame, width, height = (
        IDENTITY,
        max(placer.canvas_width, LEAST_LOSSY_SIDE),
        max(placer.canvas_height, LEAST_LOSSY_SIDE),
    )
    fill = find_border_colour(placer.reference.image)
    is_empty = union is None or not union.any()
    if union is not None and not is_empty:
        union = widen(union, margin)
        if placer.crop:
            frame, width, height = _cut_frame(union)
    frame, width, height = _shrink_frame(frame, width, height, side)
    if union is None or is_empty or blank != "union":
        return Recipe(frame, width, height, None, "none" if union is None else blank, fill)
    return Recipe(frame, width, height, warp_mask(union, frame, width, height), blank, fill)


def prepare(image: Image, placement: Placement, recipe: Recipe) -> Prepared:
    """Prepares a converted image that was placed.

    One that did not align is only placed: shrunk if it must be, centred, not warped, not blanked.
    """
    alignment = find_map(placement.alignment, image.shape[1], image.shape[0], recipe)
    drawn = _draw(image, alignment.affine, recipe)
    kept = _keep(placement, alignment.affine, recipe) if alignment.aligned else None
    if kept is not None:
        drawn[~kept] = recipe.fill if drawn.ndim == 3 else recipe.fill[0]
    return Prepared(drawn, alignment)


def find_map(on_canvas: Alignment, width: int, height: int, recipe: Recipe) -> Alignment:
    """Returns how an image of that size lies in the prepared one, given how it lies on the canvas."""
    if on_canvas.aligned:
        return replace(on_canvas, affine=compose(on_canvas.affine, recipe.frame))
    return replace(on_canvas, affine=_place_whole(width, height, recipe))


def _open_aligner(reference: Reference, alignment: AlignmentMethod, transform: Transform) -> Aligner | None:
    if alignment == "none":
        return None
    mask = np.ones(reference.image.shape[:2], bool) if reference.mask is None else reference.mask
    if alignment == "pose":
        return PoseAligner(reference.image, mask, transform)
    return AkazeAligner(reference.image, mask, transform)


def _lay_canvas(reference: Reference, *, turn: bool) -> tuple[Affine, int, int]:
    """Returns the map from the reference to its canvas, and the canvas's width and height."""
    height, width = reference.image.shape[:2]
    if reference.mask is None or not turn:
        return IDENTITY, width, height
    centre, angle, _ = find_axis(reference.mask)
    x_min, y_min, x_max, y_max = find_bounds(reference.mask)
    corners = np.array([[x_min, y_min], [x_max, y_min], [x_min, y_max], [x_max, y_max]], np.float64)
    turned = apply(rotate(-angle, centre, np.zeros(2)), corners)
    low, high = turned.min(axis=0), turned.max(axis=0)
    rim = _CANVAS_MARGIN * float((high - low).max()) + _FRAME_STEP
    size = np.ceil(high - low + 2 * rim)
    return rotate(-angle, centre, rim - low), int(size[0]), int(size[1])


def widen(mask: Mask, margin: int) -> Mask:
    """Returns a mask widened by pixels to all sides."""
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= margin)


def _cut_frame(mask: Mask) -> tuple[Affine, int, int]:
    """Returns the map from the canvas to the frame around a mask, and the frame's width and height."""
    x_min, y_min, x_max, y_max = find_bounds(mask)
    width, height = (
        max(LEAST_LOSSY_SIDE, math.ceil(length / _FRAME_STEP) * _FRAME_STEP)
        for length in (x_max - x_min, y_max - y_min)
    )
    left, top = (x_min + x_max - width) // 2, (y_min + y_max - height) // 2
    return np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), width, height


def _shrink_frame(frame: Affine, width: int, height: int, side: int) -> tuple[Affine, int, int]:
    """Shrinks a frame whose longer side is longer than `side`, unless that is 0, to whole steps about its middle."""
    if side == 0 or max(width, height) <= side:
        return frame, width, height
    factor = side / max(width, height)
    small_width, small_height = (
        max(LEAST_LOSSY_SIDE, math.ceil(factor * length / _FRAME_STEP) * _FRAME_STEP) for length in (width, height)
    )
    middle = np.array(
        [[1.0, 0.0, (small_width - factor * width) / 2], [0.0, 1.0, (small_height - factor * height) / 2]]
    )
    return compose(frame, cut_and_scale(0, 0, factor), middle), small_width, small_height


def _place_whole(width: int, height: int, recipe: Recipe) -> Affine:
    scale = min(1.0, recipe.width / width, recipe.height / height)
    left, top = (recipe.width - scale * width) / 2, (recipe.height - scale * height) / 2
    shift = 0.5 * scale - 0.5
    return np.array([[scale, 0.0, left + shift], [0.0, scale, top + shift]])


def _draw(image: Image, affine: Affine, recipe: Recipe) -> Image:
    scale = scale_of(affine)
    if scale < 0.75:  # so small that interpolation would skip pixels
        image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale)  # type: ignore[assignment]
    # Whole shifts are copied exactly by any interpolation; cubic keeps the sharpness of the others.
    size = (recipe.width, recipe.height)
    drawn = cv2.warpAffine(image, affine, size, flags=cv2.INTER_CUBIC, borderValue=recipe.fill)
    return np.asarray(drawn, np.uint8)


def _keep(placement: Placement, affine: Affine, recipe: Recipe) -> Mask | None:
    if recipe.blank == "own" and placement.mask is not None:
        return warp_mask(placement.mask, affine, recipe.width, recipe.height)
    return recipe.mask
