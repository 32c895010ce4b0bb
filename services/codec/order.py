"""Puts images that look alike next to each other, so that the video codec finds what they share."""

from collections import defaultdict

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.background import Image
from services.codec.geometry import Affine, compose, cut_and_scale, invert

_SIDE = 16
_BLOCK = 2048
"""Most images that one tree spans: its cost grows with the square."""


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
    """Returns the rows of `descriptors`, (n, d), such that those next to each other are alike.

    That is the way through their minimum spanning tree, depth first, short branches before long ones. More than 2,048
    are first sorted along their direction of largest variance and ordered block by block, so that the cost grows with
    n, not with its square. The same rows give the same order.
    """
    points = descriptors.astype(np.float32)
    if len(points) <= _BLOCK:
        return _walk(_span(points)) if len(points) else []
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    ranked = np.argsort(centred @ axes[:, -1], kind="stable")
    blocks = [ranked[start : start + _BLOCK] for start in range(0, len(ranked), _BLOCK)]
    return [int(block[place]) for block in blocks for place in _walk(_span(points[block]))]


def _span(points: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Returns the edges of the minimum spanning tree (Prim 1957), each from what is in it to what joins.

    It begins at the point farthest from the mean, which joins first, from itself.
    """
    at = int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmax())
    edges = [(at, at)]
    nearest = np.full(len(points), np.inf, np.float32)  # distance to the tree, of those that are left
    origin = np.full(len(points), at)
    is_left = np.ones(len(points), bool)
    for _ in range(len(points) - 1):
        is_left[at] = False
        distance = ((points - points[at]) ** 2).sum(axis=1)
        is_closer = is_left & (distance < nearest)
        nearest[is_closer], origin[is_closer] = distance[is_closer], at
        at = int(np.where(is_left, nearest, np.inf).argmin())
        edges.append((int(origin[at]), at))
    return edges


def _walk(edges: list[tuple[int, int]]) -> list[int]:
    """Returns the points of a tree, depth first; of the branches at a point the smaller ones first."""
    children: dict[int, list[int]] = defaultdict(list)
    sizes = dict.fromkeys((point for _, point in edges), 1)
    for origin, point in reversed(edges[1:]):
        sizes[origin] += sizes[point]
        children[origin].append(point)
    order, waiting = [], [edges[0][1]]
    while waiting:
        point = waiting.pop()
        order.append(point)
        waiting += sorted(children[point], key=lambda child: (-sizes[child], child))
    return order
