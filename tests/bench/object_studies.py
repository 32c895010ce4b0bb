"""What the bench of object detectors learns from and is judged on: labelled pictures of single things, and scenes.

Learning sees pictures with a label each and nothing more; the true boxes beside them only tell how good the drawn ones
are, and what perfect ones would have brought.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki.sample_parts.crowd import render_crowd
from mekiki.sample_parts.folder import CIRCUMSTANCES, EMPTY, LABELLED, bound
from mekiki.sample_parts.part import PARTS
from mekiki.sample_parts.picture import render_picture
from mekiki.sample_parts.scene import draw_handheld
from tests.bench.detectors import find_data

SIDE = 256  # of a made picture, pixels
TRAIN_PHOTOS, TEST_PHOTOS = range(5), range(5, 10)  # of boltnut
SCENES = 40  # rendered ones
EMPTY_EVERY = 8  # one of so many made pictures shows nothing

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the truth about it; for learning only the label of a single thing counts, "empty" for none."""

    name: str
    pixels: Pixels
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]

    @property
    def label(self) -> str:
        """What the picture shows."""
        return self.labels[0] if self.labels else EMPTY


@dataclass(frozen=True)
class Study:
    """One of the comparisons."""

    name: str
    draw: Callable[[int], Picture]
    """The picture to learn from of that number; there are as many as are asked for."""
    read_scenes: Callable[[], list[Picture]]
    scene_share: float
    truth: str
    """What the scenes' boxes are."""


def list_studies() -> Iterator[Study]:
    """Those whose data are here."""
    yield Study("rendered", _render_single, lambda: list(map(_render_scene, range(SCENES))), 0.7, "exact boxes")
    if find_data("boltnut").is_dir():
        yield Study("boltnut", _paste_part, lambda: list(map(_read_photo, TEST_PHOTOS)), 0.7, "human boxes")
    if find_data("steel").is_dir():
        # Its scenes are like its pictures: one surface, filling the image.
        yield Study("steel", _vary_steel, lambda: list(_list_steel("test")), 0.3, "human boxes")


def _render_single(number: int) -> Picture:
    kinds = (*PARTS, None) if number % EMPTY_EVERY == 0 else PARTS
    part = kinds[-1] if number % EMPTY_EVERY == 0 else kinds[number % len(PARTS)]
    scene = draw_handheld(np.random.default_rng((1, LABELLED, number, CIRCUMSTANCES)))
    made = render_picture(part, "", scene, SIDE, (1, LABELLED, number))
    box = bound(made.part) if part else None
    return Picture(f"{number:05d}", made.pixels, (part.name,) if part else (), (box,) if box else ())


def _render_scene(number: int) -> Picture:
    crowd = render_crowd(number, seed=2, most=12, size=512)
    return Picture(f"scene-{number:03d}", crowd.pixels, crowd.labels, crowd.boxes)


@cache
def _read_photo(number: int) -> Picture:
    """A photo of bolts and nuts lying together, with a person's boxes."""
    folder = find_data("boltnut")
    line = (folder / "eval.txt").read_text().splitlines()[number]
    name, *entries = (part.strip() for part in line.split("\t"))
    marks = [json.loads(entry) for entry in entries if entry]
    pixels = cv2.cvtColor(cv2.imread(str(folder / name)), cv2.COLOR_BGR2RGB)
    boxes = tuple((*mark["coordinate"][0], *mark["coordinate"][1]) for mark in marks)
    return Picture(name, pixels, tuple(mark["value"] for mark in marks), boxes)


def _paste_part(number: int) -> Picture:
    """A single part, cut out of one of the first photos and put somewhere on an empty piece of its table."""
    rng = np.random.default_rng((3, number))
    photo = _read_photo(int(rng.choice(TRAIN_PHOTOS)))
    ground = _take_empty(photo, rng)
    if number % EMPTY_EVERY == 0:  # nothing but the table
        return Picture(f"{number:05d}", ground, (), ())
    wanted = ("bolt", "nut")[number % 2]
    chosen = int(rng.choice([place for place, label in enumerate(photo.labels) if label == wanted]))
    left, top, right, bottom = (round(value) for value in photo.boxes[chosen])
    part = photo.pixels[max(0, top) : bottom, max(0, left) : right]
    scale = float(rng.uniform(0.45, 0.8)) * SIDE / max(part.shape[:2])
    part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    part = np.rot90(part, int(rng.integers(4)))
    part = part[:, ::-1] if rng.random() < 0.5 else part
    height, width = part.shape[:2]
    x, y = int(rng.integers(SIDE - width + 1)), int(rng.integers(SIDE - height + 1))
    alpha = _soften(height, width)[..., None]
    place = ground[y : y + height, x : x + width]
    place[:] = (place * (1 - alpha) + part * alpha).astype(np.uint8)
    return Picture(f"{number:05d}", ground, (wanted,), ((x, y, x + width, y + height),))


def _take_empty(photo: Picture, rng: np.random.Generator) -> Pixels:
    """A piece of the plate without any part, brought to the size of a picture."""
    height, width = photo.pixels.shape[:2]
    for side in (240, 160, 100, 60):
        for _ in range(100):
            x, y = int(rng.integers(width - side)), int(rng.integers(height - side))
            piece = photo.pixels[y : y + side, x : x + side]
            is_plate = piece.min(axis=2).std() < 12 and piece.mean() > 100  # not the carpet that it stands on
            if is_plate and all(x + side <= b[0] or b[2] <= x or y + side <= b[1] or b[3] <= y for b in photo.boxes):
                return cv2.resize(piece, (SIDE, SIDE))
    raise RuntimeError(f"no empty place in {photo.name}")


def _soften(height: int, width: int) -> NDArray[np.float32]:
    ramps = [np.minimum(np.minimum(np.arange(n) + 1, n - np.arange(n)) / 6, 1) for n in (height, width)]
    return np.outer(*ramps).astype(np.float32)


@cache
def _list_steel(split: str) -> tuple[Picture, ...]:
    """Steel surfaces of a split with a person's boxes, the labels in turn."""
    folder = find_data("steel")
    paths = sorted((folder / split).rglob("*.jpg"), key=lambda path: (path.stem.split("_")[-1].zfill(4), path.name))
    return tuple(_read_steel(folder, path) for path in paths)


def _read_steel(folder: Path, path: Path) -> Picture:
    root = ET.parse(next((folder / "annotations").rglob(f"{path.stem}.xml"))).getroot()
    ends = ("xmin", "ymin", "xmax", "ymax")
    boxes = tuple(tuple(float(o.findtext(f"bndbox/{end}")) for end in ends) for o in root.iter("object"))
    labels = tuple(o.findtext("name") for o in root.iter("object"))
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return Picture(path.stem, pixels, labels, boxes)


def _vary_steel(number: int) -> Picture:
    """The originals first, then mirrored and turned ones, for there are fewer than are asked for."""
    originals = _list_steel("train")
    picture, turns = originals[number % len(originals)], number // len(originals)
    pixels, boxes = picture.pixels, np.array(picture.boxes, np.float64).reshape(-1, 4)
    for _ in range(turns % 4):
        width = pixels.shape[1]
        pixels = np.rot90(pixels)
        boxes = np.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], axis=1)
    if turns >= 4:
        width = pixels.shape[1]
        pixels = pixels[:, ::-1]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    made = np.ascontiguousarray(pixels)
    return Picture(f"{number:05d}-{picture.name}", made, picture.labels, tuple(map(tuple, boxes.tolist())))
