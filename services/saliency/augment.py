"""Random crops and mirror images of training pictures."""

import cv2
import numpy as np
import torch

from services.saliency.pictures import Pixels

LEAST_AREA = 0.6  # of the picture; less would cut the telling part away from an object that fills it
MOST_STRETCH = 1.25


def vary(pictures: Pixels, generator: torch.Generator, *, mirror: bool) -> Pixels:
    """Crop every other picture at random and, with `mirror`, flip every other one. (n, s, s, 3) uint8 in and out.

    Half of them stay whole, because whole is what the network will see when it serves.
    """
    draws = torch.rand(len(pictures), 6, generator=generator).numpy()
    return np.stack([_vary_one(picture, draw, mirror) for picture, draw in zip(pictures, draws, strict=True)])


def _vary_one(picture: Pixels, draw: np.ndarray[tuple[int], np.dtype[np.float32]], mirror: bool) -> Pixels:  # noqa: FBT001
    varied = crop(picture, draw[2:]) if draw[0] < 0.5 else picture
    return np.ascontiguousarray(varied[:, ::-1]) if mirror and draw[1] < 0.5 else varied


def crop(picture: Pixels, draw: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Pixels:
    """Cut a rectangle and resize it to the whole; `draw` is area, stretch, x and y, each in [0, 1)."""
    size = picture.shape[0]
    area = LEAST_AREA + (1 - LEAST_AREA) * float(draw[0])
    stretch = MOST_STRETCH ** (float(draw[1]) * 2 - 1)
    width, height = (max(1, min(size, round(size * (area * ratio) ** 0.5))) for ratio in (stretch, 1 / stretch))
    x, y = round(float(draw[2]) * (size - width)), round(float(draw[3]) * (size - height))
    return np.asarray(cv2.resize(picture[y : y + height, x : x + width], (size, size)), dtype=np.uint8)
