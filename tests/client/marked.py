"""A data set of a few small pictures with known marks, for tests of formats."""

import zlib

import numpy as np

from mekiki import Annotation, AnnotationState, Box
from mekiki.formats import Mark, Picture

WIDTH, HEIGHT = 60, 40


def disc(box):
    """The mask of an ellipse that fills a box."""
    y, x = np.mgrid[: box.height, : box.width] + 0.5
    return (x / box.width * 2 - 1) ** 2 + (y / box.height * 2 - 1) ** 2 <= 1


def mark(label, *ends, score=1.0, state=AnnotationState.ACCEPTED, masked=False):
    box = Box(*ends)
    return Mark(Annotation(box, label, score=score, state=state), disc(box) if masked else None)


def picture(name, *marks, split="", labels=(), grey=False):
    shape = (HEIGHT, WIDTH) if grey else (HEIGHT, WIDTH, 3)
    pixels = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 255, shape, dtype=np.uint8)
    return Picture(name, pixels, marks, labels, split=split)


def pictures(*, masked=False):
    """Two of split train, one each of validation, test and none; one of them without marks."""
    return [
        picture(
            "train/a.png",
            mark("nut", 0, 0, 11, 7, masked=masked),
            mark("a bolt, long", 50, 30, 60, 40, masked=masked),
            split="train",
        ),
        picture("train/b.png", mark("nut", 5, 6, 7, 8, masked=masked), split="train", grey=True),
        picture("val/a.png", mark("nut", 1, 2, 59, 39, masked=masked), split="validation"),
        picture("test/a.png", split="test"),
        picture("loose.png", mark("écrou <&> 'ナット'", 20, 10, 30, 33, masked=masked)),
    ]
