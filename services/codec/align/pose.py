"""Pose from the part's mask: centre and axis by moments, every symmetric candidate tried, refined on the picture.

1. Centre and principal axis of the mask (second moments) against the reference's: two candidates, half a turn apart; a
   compact part, whose axis means little, gets one candidate every ten degrees.
2. The most promising ones are refined on the softened masks by ECC (Evangelidis and Psarakis, PAMI 2008).
3. Those are refined on the picture, and the one whose outline agrees best wins; where outlines tell little, texture
   decides. It is the strength of edges, because light and shade change when a part is turned under a lamp.

A rigid map turns and shifts, and scales only where the part is clearly not the reference's size: a bent or broken part
keeps its shape. Where a similarity or an affine map is asked for, the best rigid one is refined once more as such. All
of it happens at a size at which the part is about 160 pixels long.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.align import LEAST_OVERLAP, Alignment, Image, Transform, judge, refuse
from services.codec.geometry import (
    IDENTITY,
    Affine,
    Mask,
    apply,
    compose,
    cut_and_scale,
    find_axis,
    find_bounds,
    fit_similarity,
    invert,
    measure_overlap,
    rotate,
    warp_mask,
)

_PART_LENGTH = 160.0
"""Pixels that the reference's part is long while its pose is sought."""
_MARGIN = 0.2
_COMPACT = 1.25
"""Ratio of the axes below which the direction of the longer one means little."""
_CANDIDATES = 6
_NEARLY_EQUAL = 0.005
"""IoU by which a refinement on the picture may set the outlines apart."""
_SCALES = (1 / 8, 8.0)
_HOPELESS = 0.2
"""IoU, or merit, by which a candidate may lie behind the best one and still be worth refining."""
_STOP = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT
_MASK_STEPS = (_STOP, 30, 1e-3)
_PICTURE_STEPS = (_STOP, 30, 1e-4)
_HALVE = cut_and_scale(0, 0, 0.5)

Soft = NDArray[Any]  # (h, w) float32


@dataclass(frozen=True, eq=False)
class _Shape:
    """A part cut out at working size.

    Attributes:
        inward: from the full image's pixels to these.
        mask: (h, w).
        soft: the mask at half the size, blurred, 0 to 1.
        picture: the part's grey values about their mean, in units of their deviation, 0 outside.
        texture: the strength of its edges, likewise.
        centre: of the mask, (x, y).
        angle: of the principal axis, radians.
        elongation: longer by shorter axis, 1 or more.
    """

    inward: Affine
    mask: Mask
    soft: Soft
    picture: Soft
    texture: Soft
    centre: NDArray[np.float64]
    angle: float
    elongation: float


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A map from the image's shape to the reference's, with how well masks, pictures and textures agree."""

    affine: Affine
    overlap: float
    agreement: float
    likeness: float

    @property
    def merit(self) -> float:
        """How good it is. Of 150 turned screws outlines alone got 0 ends wrong, light and shade added 12, texture 1."""
        return self.overlap + self.likeness / 4


class PoseAligner:
    """Brings a part into the reference's pose."""

    def __init__(self, image: Image, mask: Mask, transform: Transform = "rigid") -> None:
        """Takes the reference, the part's mask in it, which must not be empty, and what a map may do."""
        self._transform = transform
        x_min, y_min, x_max, y_max = find_bounds(mask)
        self._factor = min(1.0, _PART_LENGTH / max(x_max - x_min, y_max - y_min))
        self._area = int(np.count_nonzero(mask))
        self._reference = _cut_out(image, mask, self._factor)

    def align(self, image: Image, mask: Mask) -> Alignment:
        """Finds the pose; see `Aligner`."""
        area = int(np.count_nonzero(mask))
        if area == 0:
            return refuse("no part stands out from its background")
        best: Alignment | None = None
        for scale in self._propose_scales(area):
            found = self._align_at(image, mask, scale)
            if best is None or found.score > best.score:
                best = found
            if best.aligned:
                return best
        return best or refuse("the part is more than eight times larger or smaller than the reference's")

    def _propose_scales(self, area: int) -> Iterable[float]:
        """Yields the reference's size as it is, if the areas allow it at all, then what the areas say."""
        ratio = self._area / area
        if LEAST_OVERLAP <= ratio <= 1 / LEAST_OVERLAP:
            yield 1.0
        if _SCALES[0] <= math.sqrt(ratio) <= _SCALES[1]:
            yield math.sqrt(ratio)

    def _align_at(self, image: Image, mask: Mask, scale: float) -> Alignment:
        shape = _cut_out(image, mask, self._factor * scale)
        starts = self._propose(shape)
        hopeful = max(start.overlap for start in starts) - _HOPELESS
        candidates = [self._refine_on_mask(shape, start) for start in starts if start.overlap >= hopeful]
        promising = max(candidate.merit for candidate in candidates) - _HOPELESS
        refined = [self._refine_on_picture(shape, one) for one in candidates if one.merit >= promising]
        chosen = max(refined, key=lambda candidate: candidate.merit)
        if self._transform != "rigid":
            chosen = self._stretch(shape, chosen)
        return judge(compose(shape.inward, chosen.affine, invert(self._reference.inward)), chosen.overlap)

    def _propose(self, shape: _Shape) -> list[_Candidate]:
        """Returns the turns worth refining, at most six."""
        reference = self._reference
        turn = reference.angle - shape.angle
        steps = [0.0, math.pi] if max(shape.elongation, reference.elongation) > _COMPACT else _full_circle()
        tried = [self._measure(shape, rotate(turn + step, shape.centre, reference.centre)) for step in steps]
        if len(tried) <= _CANDIDATES:
            return tried
        values = [candidate.merit for candidate in tried]
        around = len(values)
        peaks = [n for n in range(around) if values[n] >= max(values[n - 1], values[(n + 1) % around])]
        return [tried[n] for n in sorted(peaks, key=lambda n: -values[n])[:_CANDIDATES]]

    def _refine_on_mask(self, shape: _Shape, start: _Candidate) -> _Candidate:
        halved = compose(invert(_HALVE), start.affine, _HALVE)
        moved = _refine(self._reference.soft, shape.soft, halved, _MASK_STEPS)
        if moved is None:
            return start
        refined = self._measure(shape, compose(_HALVE, moved, invert(_HALVE)))
        return refined if refined.overlap >= start.overlap else start

    def _refine_on_picture(self, shape: _Shape, start: _Candidate) -> _Candidate:
        """Refines on the picture, unless that pulls the outlines apart or the pictures no nearer."""
        moved = _refine(self._reference.picture, shape.picture, start.affine, _PICTURE_STEPS)
        return start if moved is None else self._prefer(shape, start, moved)

    def _stretch(self, shape: _Shape, start: _Candidate) -> _Candidate:
        """Refines as an affine map, or the similarity nearest to it on the part, unless outlines or pictures lose."""
        moved = _refine(self._reference.picture, shape.picture, start.affine, _PICTURE_STEPS, cv2.MOTION_AFFINE)
        if moved is None:
            return start
        if self._transform == "similarity":
            height, width = shape.mask.shape
            corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
            moved = fit_similarity(corners, apply(moved, corners))
        return self._prefer(shape, start, moved)

    def _prefer(self, shape: _Shape, start: _Candidate, moved: Affine) -> _Candidate:
        refined = self._measure(shape, moved)
        worse = refined.overlap < start.overlap - _NEARLY_EQUAL or refined.agreement < start.agreement
        return start if worse else refined

    def _measure(self, shape: _Shape, affine: Affine) -> _Candidate:
        height, width = self._reference.mask.shape
        mask = warp_mask(shape.mask, affine, width, height)
        drawn = [
            cv2.warpAffine(one, affine, (width, height), flags=cv2.INTER_LINEAR)
            for one in (shape.picture, shape.texture)
        ]
        return _Candidate(
            affine,
            measure_overlap(mask, self._reference.mask),
            _correlate(self._reference.picture, drawn[0]),
            _correlate(self._reference.texture, drawn[1]),
        )


def _cut_out(image: Image, mask: Mask, factor: float) -> _Shape:
    """Cuts the part out with a margin and resizes it by `factor`."""
    x_min, y_min, x_max, y_max = find_bounds(mask)
    rim = math.ceil(_MARGIN * max(x_max - x_min, y_max - y_min)) + 4
    left, top, right, bottom = x_min - rim, y_min - rim, x_max + rim, y_max + rim
    inward = cut_and_scale(left, top, factor)
    size = (2 * max(8, round((right - left) * factor / 2)), 2 * max(8, round((bottom - top) * factor / 2)))
    # INTER_AREA in one go: first down by the factor, then placed; warpAffine alone would alias.
    shrunk = _shrink(image, mask, factor)
    place = compose(invert(cut_and_scale(0, 0, factor)), inward)
    soft_mask = cv2.warpAffine(shrunk[1], place, size, flags=cv2.INTER_LINEAR)
    small = soft_mask >= 0.5
    grey = cv2.warpAffine(shrunk[0], place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _describe(inward, small if small.any() else soft_mask >= soft_mask.max(), grey)


def _shrink(image: Image, mask: Mask, factor: float) -> tuple[Soft, Soft]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small_grey = cv2.resize(grey, size, interpolation=way).astype(np.float32)
    small_mask = cv2.resize(mask.view(np.uint8) * np.uint8(255), size, interpolation=way)  # bytes: floats take longer
    return small_grey, small_mask.astype(np.float32) / 255


def _describe(inward: Affine, mask: Mask, grey: Soft) -> _Shape:
    centre, angle, elongation = find_axis(mask)
    slope = np.hypot(cv2.Scharr(grey, cv2.CV_32F, 1, 0), cv2.Scharr(grey, cv2.CV_32F, 0, 1)) / 16
    texture = _normalise(cv2.GaussianBlur(slope, (0, 0), 3), mask)
    picture = cv2.GaussianBlur(_normalise(grey, mask), (0, 0), 1)
    half = (max(4, mask.shape[1] // 2), max(4, mask.shape[0] // 2))
    soft = cv2.resize(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3), half, interpolation=cv2.INTER_AREA)
    return _Shape(inward, mask, soft, picture, texture, centre, angle, elongation)


def _normalise(values: Soft, mask: Mask) -> Soft:
    """Returns the values about their mean within the mask, in units of their deviation there, and 0 outside."""
    inside = values[mask]
    scaled = (values - inside.mean()) / max(float(inside.std()), 1e-3)
    return np.where(mask, scaled, 0).astype(np.float32)


def _correlate(one: Soft, other: Soft) -> float:
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norm if norm else 0.0


def _refine(
    reference: Soft, moving: Soft, start: Affine, steps: tuple[int, int, float], motion: int = cv2.MOTION_EUCLIDEAN
) -> Affine | None:
    """Returns the map by ECC from a first guess, rigid unless told otherwise; None where it does not converge."""
    height, width = reference.shape
    # ECC starts from the identity: cv2 keeps only the sine of a rotation, and loses its way beyond a quarter turn.
    drawn = cv2.warpAffine(moving, start, (width, height), flags=cv2.INTER_LINEAR)
    try:
        still = IDENTITY.astype(np.float32)
        _, found = cv2.findTransformECC(reference, drawn, still, motion, steps)
    except cv2.error:  # "the algorithm stopped before its convergence": the pictures are too different
        return None
    # What it finds leads from the reference to the image.
    affine = compose(start, invert(np.asarray(found, np.float64)))
    return affine if np.isfinite(affine).all() else None


def _full_circle() -> list[float]:
    return [math.radians(degrees) for degrees in range(0, 360, 10)]
