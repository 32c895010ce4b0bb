"""Puts images that look alike next to each other, so that the video codec finds what they share."""

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.background import Image
from services.codec.geometry import Affine, compose, cut_and_scale, invert

_SIDE = 16
_BLOCK = 2048
"""Most images that one chain runs through: its cost grows with the square."""


def describe(image: Image, affine: Affine, width: int, height: int) -> NDArray[np.uint8]:
    """Returns a small picture, (256,), of an image as it lies on a canvas of that size, to compare it by."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    shrink = min(1.0, 2 * _SIDE / min(width, height))
    size = (max(1, round(grey.shape[1] * shrink)), max(1, round(grey.shape[0] * shrink)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    onto = compose(invert(cut_and_scale(0, 0, shrink)), affine)
    stretch = np.array([[_SIDE / width, 0.0, 0.0], [0.0, _SIDE / height, 0.0]])
    drawn = cv2.warpAffine(small, compose(onto, stretch), (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(drawn, np.uint8).ravel()


def order_by_likeness(descriptors: NDArray[np.uint8]) -> list[int]:
    """Returns the rows of `descriptors`, (n, d), as a chain in which each is followed by the nearest one left.

    More than 2,048 are first sorted along their direction of largest variance and chained block by block, so that the
    cost grows with n, not with its square. The same rows give the same chain.
    """
    points = descriptors.astype(np.float32)
    if len(points) <= _BLOCK:
        return _chain(points)
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    ranked = np.argsort(centred @ axes[:, -1], kind="stable")
    blocks = [ranked[start : start + _BLOCK] for start in range(0, len(ranked), _BLOCK)]
    return [int(block[place]) for block in blocks for place in _chain(points[block])]


def _chain(descriptors: NDArray[np.float32]) -> list[int]:
    """Greedy: starts at the first row, goes on to the nearest that is left."""
    left = np.arange(len(descriptors))
    chain = []
    at = 0
    while len(left):
        here = left[at]
        chain.append(int(here))
        left = np.delete(left, at)
        if len(left):
            at = int(((descriptors[left] - descriptors[here]) ** 2).sum(axis=1).argmin())
    return chain
