"""Makes training pictures: of one item, or of several, so that what learnt from single parts finds many at once.

- *whole*: an item nearer or farther away, somewhere in the square;
- *grid*: a mosaic of 2 x 2 to 4 x 4 items (Bochkovskiy et al., "YOLOv4", 2020, section 3.3);
- *strewn*: objects cut out and strewn over an item (Dwibedi et al., "Cut, paste and learn", ICCV 2017), at any size.

All chances come from the generator that is handed in. Boxes of which little is left in view are dropped.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.saliency.detection import cutout as cutouts
from services.saliency.detection.letterbox import GREY, Boxes
from services.saliency.detection.recipe import PictureSet
from services.saliency.pictures import Pixels

LEAST_VISIBLE = 0.4  # of a box's area, else it is dropped
LEAST_SIDE = 3  # pixels of a box
MOST_STREWN = 14
SIZES = (0.06, 0.5)  # of a strewn object's longer side to the square's, drawn evenly over its logarithm
MOST_HIDDEN = 0.15  # of a strewn object by another, or the other way round
PLACES_TRIED = 8
GRIDS = (2, 2, 3, 3, 4)

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture (s, s, 3) uint8 and what is on it: boxes (n, 4), classes (n,)."""

    pixels: Pixels
    boxes: Boxes
    classes: Classes


class Composer:
    """Makes pictures of the items `pool` of a set.

    Args:
        data: the items.
        pool: indices of those to use.
        scene_share: of the pictures that are made of several items.
        upright: nothing is turned or mirrored.
    """

    def __init__(self, data: PictureSet, pool: npt.NDArray[np.int64], scene_share: float, *, upright: bool) -> None:
        self._data = data
        self._pool = pool
        self._scene_share = scene_share
        self._upright = upright
        self._size = int(data.pixels.shape[1])
        places = [(int(item), place) for item in pool for place in range(len(data.classes[item]))]
        kinds = sorted({int(data.classes[item][place]) for item, place in places})
        self._objects = [[(item, place) for item, place in places if data.classes[item][place] == one] for one in kinds]
        self._empty = [int(item) for item in pool if not len(data.classes[item])]

    def compose(self, item: int, rng: np.random.Generator) -> Picture:
        """Make one picture, around `item` or of others, with colours varied."""
        draw = rng.random()
        if draw >= self._scene_share:
            made = self._show_whole(item, rng)
        elif draw < self._scene_share / 2:
            made = self._lay_grid(item, rng)
        else:
            made = self._strew(item, rng)
        return Picture(vary_colours(made.pixels, rng), made.boxes, made.classes)

    def _read(self, item: int) -> Picture:
        """An item without the grey beside it."""
        width, height = self._data.extents[item]
        pixels = np.asarray(self._data.pixels[item][:height, :width])
        return Picture(pixels, self._data.boxes[item], self._data.classes[item])

    def _show_whole(self, item: int, rng: np.random.Generator) -> Picture:
        picture = self._vary_pose(self._read(item), rng)
        height, width = picture.pixels.shape[:2]
        scale = self._size / max(height, width) * float(np.exp(rng.uniform(np.log(0.5), np.log(1.4))))
        return self._place(picture, scale, rng)

    def _vary_pose(self, picture: Picture, rng: np.random.Generator) -> Picture:
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        return picture if self._upright else pose(picture, turns, mirrored=flip)

    def _place(self, picture: Picture, scale: float, rng: np.random.Generator, side: int = 0) -> Picture:
        """Resize a picture and put it somewhere into a square, cut off where it is larger."""
        side = side or self._size
        height, width = (max(1, round(extent * scale)) for extent in picture.pixels.shape[:2])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(picture.pixels, (width, height), interpolation=method), np.uint8)
        x, y = (int(rng.integers(min(0, side - extent), max(0, side - extent) + 1)) for extent in (width, height))
        square = np.full((side, side, 3), GREY, np.uint8)
        seen = pixels[max(0, -y) : side - y, max(0, -x) : side - x]
        square[max(0, y) : max(0, y) + seen.shape[0], max(0, x) : max(0, x) + seen.shape[1]] = seen
        boxes = picture.boxes * np.float32(scale) + np.array([x, y, x, y], np.float32)
        return clip(Picture(square, boxes, picture.classes))

    def _lay_grid(self, item: int, rng: np.random.Generator) -> Picture:
        cells = int(rng.choice(GRIDS))
        edges = np.linspace(0, self._size, cells + 1).astype(int)
        side = int(np.diff(edges).max())
        chosen = [item, *(int(one) for one in rng.choice(self._pool, cells * cells - 1))]
        order = rng.permutation(len(chosen))
        square = np.full((self._size, self._size, 3), GREY, np.uint8)
        boxes, classes = [], []
        for number, (row, column) in enumerate(np.ndindex(cells, cells)):
            shown = self._vary_pose(self._read(chosen[order[number]]), rng)
            fill = side / min(shown.pixels.shape[:2]) * float(rng.uniform(0.85, 1.25))
            cell = self._place(shown, fill, rng, side)
            y, x = edges[row], edges[column]
            height, width = edges[row + 1] - y, edges[column + 1] - x
            square[y : y + height, x : x + width] = cell.pixels[:height, :width]
            boxes.append(cell.boxes + np.array([x, y, x, y], np.float32))
            classes.append(cell.classes)
        return clip(Picture(square, np.concatenate(boxes), np.concatenate(classes)))

    def _strew(self, item: int, rng: np.random.Generator) -> Picture:
        ground = int(rng.choice(self._empty)) if self._empty and rng.random() < 0.5 else item
        made = self._show_whole(ground, rng)
        pixels, boxes, classes = made.pixels.copy(), list(made.boxes), list(made.classes)
        size = float(np.exp(rng.uniform(*np.log(SIZES))))  # of most in this picture: things in a scene are of one scale
        for _ in range(int(rng.integers(2, MOST_STREWN + 1))):
            thing = self._take_object(rng, size * float(rng.uniform(0.7, 1.4)))
            if thing is None:
                continue
            found, number = thing
            box = _find_room(found.alpha.shape, self._size, np.array(boxes, np.float32).reshape(-1, 4), rng)
            if box is not None:
                lay_over(pixels, found, box, float(rng.uniform(0.85, 1.15)))
                boxes.append(box)
                classes.append(np.int64(number))
        return Picture(pixels, np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64))

    def _take_object(self, rng: np.random.Generator, size: float) -> tuple[cutouts.Cutout, int] | None:
        """An object of any class alike, as large as `size` says, turned anyhow."""
        kind = self._objects[int(rng.integers(len(self._objects)))]
        item, place = kind[int(rng.integers(len(kind)))]
        found = cutouts.cut_out(self._read(item).pixels, self._data.boxes[item][place])
        angle, turns, flip = float(rng.uniform(0, 360)), int(rng.integers(4)), bool(rng.integers(2))
        if found is None:
            return None
        scale = min(size, 0.9) * self._size / max(found.alpha.shape)
        if self._upright:
            found = cutouts.resize(found, scale, 0)
        else:
            found = cutouts.mirror(found) if flip else found
            found = cutouts.turn(found, angle, scale) if found.outlined else cutouts.resize(found, scale, turns)
        return found, int(self._data.classes[item][place])


def pose(picture: Picture, quarter_turns: int, *, mirrored: bool) -> Picture:
    """Turn a picture by quarters, anticlockwise, and then mirror it; boxes go along."""
    pixels, boxes = picture.pixels, picture.boxes
    for _ in range(quarter_turns):
        width = np.float32(pixels.shape[1])
        pixels = np.rot90(pixels)
        boxes = np.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], axis=1)
    if mirrored:
        width = np.float32(pixels.shape[1])
        pixels = pixels[:, ::-1]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return Picture(np.ascontiguousarray(pixels), boxes, picture.classes)


def clip(picture: Picture) -> Picture:
    """Cut boxes off at the picture's edge; those with too little in view are dropped."""
    height, width = picture.pixels.shape[:2]
    boxes = np.clip(picture.boxes, 0, np.array([width, height, width, height], np.float32))
    sides, before = boxes[:, 2:] - boxes[:, :2], picture.boxes[:, 2:] - picture.boxes[:, :2]
    kept = (sides.min(axis=1) >= LEAST_SIDE) & (sides.prod(axis=1) >= LEAST_VISIBLE * before.prod(axis=1))
    return Picture(picture.pixels, boxes[kept], picture.classes[kept])


def _find_room(
    shape: tuple[int, ...], size: int, boxes: Boxes, rng: np.random.Generator
) -> npt.NDArray[np.float32] | None:
    """A place for something (h, w) in the square that hides no other; None where none was found."""
    height, width = shape[:2]
    if max(height, width) > size or min(height, width) < LEAST_SIDE:
        return None
    for _ in range(PLACES_TRIED):
        x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
        box = np.array([x, y, x + width, y + height], np.float32)
        if cutouts.cover(box, boxes) <= MOST_HIDDEN:
            return box
    return None


def lay_over(pixels: Pixels, found: cutouts.Cutout, box: npt.NDArray[np.float32], gain: float) -> None:
    """Blend an object into pixels at `box`, in place, brightened by `gain`."""
    left, top, right, bottom = (int(value) for value in box)
    ground = pixels[top:bottom, left:right].astype(np.float32)
    alpha = found.alpha[..., None]
    blend = ground * (1 - alpha) + found.pixels.astype(np.float32) * np.float32(gain) * alpha
    pixels[top:bottom, left:right] = np.clip(blend, 0, 255).astype(np.uint8)


def vary_colours(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Vary brightness, contrast, tint and sharpness a little."""
    gain, tint = rng.uniform(0.75, 1.25), rng.uniform(0.93, 1.07, 3)
    contrast, blurred = rng.uniform(0.8, 1.2), rng.random() < 0.15
    scale = (gain * tint * contrast).astype(np.float32)
    shift = np.float32(float(pixels.mean()) * gain * (1 - contrast))
    varied = np.clip(pixels.astype(np.float32) * scale + shift, 0, 255).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(varied, (3, 3), 0), np.uint8) if blurred else varied
