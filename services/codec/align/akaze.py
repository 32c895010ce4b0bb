"""The original tool's way: AKAZE features of the cut-out, matched to the reference, one robust map through them."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.align import Alignment, Image, Transform, judge, refuse
from services.codec.geometry import (
    Affine,
    Mask,
    Points,
    cut_and_scale,
    fit_rigid,
    invert,
    measure_overlap,
    warp_mask,
)

_RATIO = 0.8
"""Lowe's ratio test: the best match must be that much nearer than the second best."""
_LEAST_MATCHES = 6
_REACH = 4.0
"""Distance in pixels within which a match agrees with the map."""
_LARGEST_SIDE = 1024


class AkazeAligner:
    """AKAZE (Alcantarilla et al., BMVC 2013), ratio test, RANSAC over the maps that are asked for."""

    def __init__(self, image: Image, mask: Mask, transform: Transform = "similarity") -> None:
        """Takes the reference, the part's mask in it (an empty one means the whole picture), and what a map may do."""
        self._transform = transform
        self._mask = mask if mask.any() else np.ones_like(mask)
        self._shape = image.shape[:2]
        self._points, self._features = _describe(image, self._mask)

    def align(self, image: Image, mask: Mask) -> Alignment:
        """Finds the map by matched features; see `Aligner`."""
        mask = mask if mask.any() else np.ones(image.shape[:2], bool)
        points, features = _describe(image, mask)
        pairs = _match(features, self._features)
        if len(pairs) < _LEAST_MATCHES:
            return refuse(f"only {len(pairs)} features match the reference, fewer than {_LEAST_MATCHES}")
        affine = _fit(points[pairs[:, 0]], self._points[pairs[:, 1]], self._transform)
        if affine is None:
            return refuse(f"no map fits the {len(pairs)} matched features")
        height, width = self._shape
        return judge(affine, measure_overlap(warp_mask(mask, affine, width, height), self._mask))


def _fit(source: Points, target: Points, transform: Transform) -> Affine | None:
    """Returns the map from source to target, (n, 2) each, that most pairs agree with; None where there is none."""
    affine: Any
    estimate = cv2.estimateAffine2D if transform == "affine" else cv2.estimateAffinePartial2D
    affine, agree = estimate(source, target, ransacReprojThreshold=_REACH, maxIters=5000)
    if affine is None or transform != "rigid":
        return None if affine is None else np.asarray(affine, np.float64)
    chosen = agree.ravel().astype(bool)
    return fit_rigid(source[chosen], target[chosen])


def _describe(image: Image, mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Returns places in the image's pixels, (n, 2), and features, (n, 61)."""
    factor = min(1.0, _LARGEST_SIDE / max(image.shape[:2]))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    cut = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    # A detector of its own each time: cv2's objects are not safe to share among threads.
    features: Any
    found, features = cv2.AKAZE.create(threshold=5e-4).detectAndCompute(small, cut)
    if features is None:
        return np.empty((0, 2)), np.empty((0, 61), np.uint8)
    back = invert(cut_and_scale(0, 0, factor))
    places = np.array([point.pt for point in found], np.float64)
    return places @ back[:, :2].T + back[:, 2], np.asarray(features, np.uint8)


def _match(features: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns index pairs of features that match clearly, (n, 2)."""
    if len(features) == 0 or len(reference) < 2:
        return np.empty((0, 2), np.int64)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(features, reference, k=2)
    clear = [(best.queryIdx, best.trainIdx) for best, second in matches if best.distance < _RATIO * second.distance]
    return np.array(clear, np.int64).reshape(-1, 2)
