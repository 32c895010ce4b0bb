"""From scores on the network's grid to the pixels of the image, with the dense CRF in between where that is asked for.

Nothing here needs the network, so that a service without segmenters loads none of its libraries.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.saliency.pictures import convert_to_rgb
from services.saliency.segmentation.dense_crf import Pixels, Scores

Image = npt.NDArray[np.generic]
Refine = Callable[[Scores, Pixels], Scores]
"""Brings scores (k + 1, h, w) to the edges of their picture (h, w, 3)."""

MOST_REFINED_SIDE = 1024  # pixels of the longer side; beyond it the CRF takes minutes
MOST_REFINED_VALUES = 1 << 25  # pixels by classes: 128 MB a copy


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What each pixel of an image shows.

    Attributes:
        classes: (h, w) uint8; 0 is the background, n the n-th label.
        probabilities: of these classes, (h, w) float32.
    """

    classes: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]


def refine_scores(scores: Scores, image: Image, refine: Refine) -> Scores:
    """Bring scores (k + 1, h, w) to the edges of an image, at its own size or as large as can be afforded."""
    width, height = find_refined_size(image.shape, len(scores))
    picture = cv2.resize(convert_to_rgb(image), (width, height), interpolation=cv2.INTER_AREA)
    enlarged = np.stack([_resize(plane, width, height) for plane in scores])
    return refine(enlarged, np.array(picture, np.uint8))  # a copy: pydensecrf takes no read-only memory


def find_refined_size(shape: tuple[int, ...], classes: int) -> tuple[int, int]:
    """Give (width, height) at which the CRF sees an image of `shape` (h, w, ...)."""
    height, width = shape[:2]
    by_memory = (MOST_REFINED_VALUES / (classes * width * height)) ** 0.5
    scale = min(1.0, MOST_REFINED_SIDE / max(width, height), by_memory)
    return max(1, int(width * scale)), max(1, int(height * scale))


def draw(scores: Scores, shape: tuple[int, ...]) -> Segmentation:
    """Resize scores (k + 1, h, w) to an image of `shape` (h, w, ...); each pixel has the most probable class.

    One class at a time, since all of them at the size of a large image would fill the memory.
    """
    height, width = shape[:2]
    classes = np.zeros((height, width), np.uint8)
    best = _resize(scores[0], width, height)
    for number, plane in enumerate(scores[1:], 1):
        probability = _resize(plane, width, height)
        better = probability > best
        classes[better] = number
        best[better] = probability[better]
    return Segmentation(classes, best)


def _resize(plane: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    """A copy of another size; the grid's cells tile the whole image, a cell's value sits at its centre."""
    return np.array(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
