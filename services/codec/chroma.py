"""How much of a picture's colour is finer than a video with half its resolution (4:2:0) can hold."""

from collections.abc import Callable, Iterable
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.background import Image
from services.codec.items import Item
from services.codec.medoid import spread
from services.codec.options import ChromaChoice
from services.codec.reading import Read
from services.codec.reference import count_bits, to_eight_bits
from services.codec.video_encode import Chroma, Codec
from services.runtime.errors import DataLoss

WORTH_KEEPING = 6.0
"""Grey levels. Photos of parts lose 1 to 4, coloured edges of photos 11, a coloured hairline 11, sensor noise 3."""

_BLOCK = 16
_SAMPLE = 32


def choose_chroma(wanted: ChromaChoice, codec: Codec, loss: float) -> Chroma:
    """Returns the resolution of colour that is used; AV1 has only one."""
    if wanted != "auto":
        return wanted
    return "444" if loss >= WORTH_KEEPING and codec == "hevc" else "420"


def find_chroma_loss(read: Callable[[Item], Read], items: Iterable[Item]) -> float:
    """Returns the largest loss of some of the coloured images, evenly spread; damaged ones are passed over."""
    losses = [0.0]
    for item in spread([item for item in items if item.channels >= 3], _SAMPLE):
        with suppress(DataLoss):
            pixels = read(item).pixels
            losses.append(measure_chroma_loss(to_eight_bits(pixels, count_bits(pixels), 3)))
    return max(losses)


def measure_chroma_loss(image: Image) -> float:
    """Returns what halving the resolution of Cb and Cr takes from them, grey levels; 0 of a grey image.

    That is the root mean square of the block of 16 x 16 pixels that loses most, because defects are small.
    """
    height, width = (side - side % 2 for side in image.shape[:2])
    if image.ndim == 2 or min(height, width) < 2:
        return 0.0
    planes = cv2.split(cv2.cvtColor(image[:height, :width], cv2.COLOR_RGB2YCrCb))[1:]
    lost = sum(_lose(np.asarray(plane, np.float32)) ** 2 for plane in planes)
    block = (min(_BLOCK, width), min(_BLOCK, height))
    return float(np.sqrt(cv2.blur(np.asarray(lost, np.float32), block).max()))


def _lose(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    size = (plane.shape[1], plane.shape[0])
    half = cv2.resize(plane, (size[0] // 2, size[1] // 2), interpolation=cv2.INTER_AREA)
    return plane - np.asarray(cv2.resize(half, size, interpolation=cv2.INTER_LINEAR), np.float32)
