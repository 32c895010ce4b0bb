"""Photos with people's boxes, and how boxes that a machine drew are judged by them."""

import random
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
from numpy.typing import NDArray

import mekiki
from tests.bench.detectors import find_data

OVERLAPS = (0.3, 0.5, 0.7)  # of MaxBoxAccV2 (Choe et al., CVPR 2020)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """A photo with its label, and people's boxes, of which only judging and calibrating know."""

    name: str
    label: str
    pixels: Pixels
    boxes: tuple[mekiki.Box, ...]


@dataclass(frozen=True)
class Boxed:
    """A set of photos: what the classifier learns from by labels alone, what is calibrated on, what is judged."""

    name: str
    learning: list[tuple[str, Pixels]]  # label, pixels
    training: list[Photo]
    judged: list[Photo]


def gather_raccoons(count: int) -> Boxed:
    """100 photos to train, `count` others to judge. What is no raccoon is CIFAR-10, and the corners of the photos.

    A corner of a photo is labelled "scenery" without a look at it: of a photo that was taken of an animal that is
    mostly right, and where it is not, it is noise in the labels.
    """
    root = find_data("raccoon")
    photos = [
        Photo(path.stem, "raccoon", read(path), read_boxes(root / "annotations" / f"{path.stem}.xml"))
        for path in sorted((root / "images").glob("*.jpg"))
    ]
    random.Random(0).shuffle(photos)
    training, judged = photos[:100], photos[100 : 100 + count]
    learning = [("raccoon", photo.pixels) for photo in training]
    for photo in training:
        learning += [("scenery", corner) for corner in random.Random(photo.name).sample(cut_corners(photo.pixels), 2)]
    others = sorted((find_data("cifar10") / "train").rglob("*.jpg"))
    learning += [("other", read(path)) for path in random.Random(1).sample(others, min(100, len(others)))]
    return Boxed("raccoon", learning, training, judged)


def gather_steel(count: int) -> Boxed:
    """80 photos of each of six defects to train, about `count` others to judge."""
    root = find_data("steel")

    def load(split: str) -> list[Photo]:
        photos = [
            Photo(path.stem, path.parent.name, read(path), read_boxes(root / "annotations" / f"{path.stem}.xml"))
            for path in sorted((root / split).rglob("*.jpg"))
        ]
        random.Random(0).shuffle(photos)
        return [photo for photo in photos if photo.boxes]

    training = load("train")
    learning = [(photo.label, photo.pixels) for photo in training]
    return Boxed("steel", learning, training, load("test")[:count])


def cut_corners(pixels: Pixels) -> list[Pixels]:
    """The four corners of a photo, three tenths of its sides."""
    high, wide = (max(8, round(0.3 * side)) for side in pixels.shape[:2])
    return [pixels[:high, :wide], pixels[:high, -wide:], pixels[-high:, :wide], pixels[-high:, -wide:]]


def read(path: Path) -> Pixels:
    """(h, w, 3) RGB."""
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])


def read_boxes(path: Path) -> tuple[mekiki.Box, ...]:
    """Pascal VOC's boxes, which count pixels from 1 and include their last one."""
    root = ET.parse(path).getroot()
    found = [[int(float(each.findtext(f"bndbox/{edge}"))) for edge in EDGES] for each in root.iter("object")]
    boxes = [mekiki.Box(max(0, left - 1), max(0, top - 1), right, bottom) for left, top, right, bottom in found]
    return tuple(box for box in boxes if box.x_max > box.x_min and box.y_max > box.y_min)


EDGES = ("xmin", "ymin", "xmax", "ymax")


def measure_iou(one: mekiki.Box, two: mekiki.Box) -> float:
    """Intersection over union, 0 to 1."""
    width = min(one.x_max, two.x_max) - max(one.x_min, two.x_min)
    height = min(one.y_max, two.y_max) - max(one.y_min, two.y_min)
    shared = max(0, width) * max(0, height)
    return shared / (one.width * one.height + two.width * two.height - shared)


def judge(found: mekiki.Box | None, photo: Photo) -> float:
    """IoU of the best box found with the nearest of the people's, as in ILSVRC's localisation; 0 for none."""
    return 0.0 if found is None else max(measure_iou(found, box) for box in photo.boxes)


def measure_accuracy(ious: list[float]) -> float:
    """The mean share of photos over IoU .3, .5 and .7."""
    return float(np.mean([(np.array(ious) >= overlap).mean() for overlap in OVERLAPS]))


def draw_sheet(path: Path, pictures: list[tuple[Pixels, list[tuple[mekiki.Box, tuple[int, int, int]]]]]) -> None:
    """A sheet of pictures with boxes in colours (BGR), ten in a row."""
    side, tiles = 128, []
    for pixels, boxes in pictures:
        canvas = cv2.resize(pixels[:, :, ::-1], (side, side), interpolation=cv2.INTER_CUBIC)
        across, down = side / pixels.shape[1], side / pixels.shape[0]
        for box, colour in boxes:
            corners = (int(box.x_min * across), int(box.y_min * down)), (int(box.x_max * across), int(box.y_max * down))
            cv2.rectangle(canvas, *corners, colour, 2)
        tiles.append(canvas)
    tiles += [np.zeros((side, side, 3), np.uint8)] * (-len(tiles) % 10)
    rows = [np.hstack(tiles[start : start + 10]) for start in range(0, len(tiles), 10)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows))
