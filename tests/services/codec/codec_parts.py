"""Synthetic parts in any pose."""

import math

import cv2
import numpy as np

from services.codec.geometry import rotate

PAPER = 200


def draw_part(angle=0.0, centre=(100.0, 100.0), size=200, noise_seed=None):
    """A lopsided bolt, dark on light, turned by `angle` radians: nothing about it is symmetric."""
    side = np.zeros((size, size), np.uint8)
    picture = np.full((size, size), PAPER, np.uint8)
    to_place = rotate(angle, np.array([0.0, 0.0]), np.array(centre))
    for points, grey in (
        ([(-55, -8), (30, -8), (30, 8), (-55, 8)], 90),
        ([(30, -22), (48, -22), (48, 22), (30, 22)], 60),
        ([(-20, 8), (-5, 8), (-5, 16), (-20, 16)], 110),
    ):
        corners = np.array(points, np.float64) @ to_place[:, :2].T + to_place[:, 2]
        fixed = np.round(corners * 16).astype(np.int32)
        cv2.fillPoly(picture, [fixed], grey, cv2.LINE_AA, 4)
        cv2.fillPoly(side, [fixed], 255, cv2.LINE_8, 4)
    if noise_seed is not None:
        noise = np.random.default_rng(noise_seed).normal(0, 2, picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return picture, side > 0


def draw_parts(count, seed=0):
    """Parts in random poses, as a list of pictures."""
    random = np.random.default_rng(seed)
    poses = [(random.uniform(-math.pi, math.pi), random.uniform(85, 115, 2)) for _ in range(count)]
    return [draw_part(angle, tuple(centre), noise_seed=seed + n)[0] for n, (angle, centre) in enumerate(poses)]
