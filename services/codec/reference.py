"""The picture that others are brought to, and how any image becomes comparable to it."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.background import Image, Remover
from services.codec.geometry import Mask
from services.runtime.errors import FailedPrecondition


@dataclass(frozen=True, eq=False)
class Reference:
    """The picture that all others are brought to.

    Attributes:
        image: (h, w) or (h, w, 3) uint8.
        mask: of its part; None where no background is removed.
        bits: significant bits of the pixels it was made from, 8 to 16; see `to_eight_bits`.
    """

    image: Image
    mask: Mask | None
    bits: int


def open_reference(pixels: NDArray[Any], remover: Remover | None) -> Reference:
    """Makes a reference of an image as it was stored.

    Raises:
        FailedPrecondition: no part stands out in it.
    """
    bits = count_bits(pixels)
    image = to_eight_bits(pixels, bits, 1 if pixels.ndim == 2 else 3)
    mask = remover.find_part(image) if remover else None
    if mask is not None and not mask.any():
        raise FailedPrecondition("NO_PART", "no part stands out from the background of the reference image")
    return Reference(image, mask, bits)


def count_bits(pixels: NDArray[Any]) -> int:
    """Returns how many bits an image's brightest pixel needs, 8 to 16."""
    return max(8, int(pixels.max()).bit_length()) if pixels.dtype == np.uint16 else 8


def to_eight_bits(pixels: NDArray[Any], bits: int, channels: int) -> Image:
    """Returns an image (h, w) or (h, w, 3) uint8 of one that has 8 or 16 bits, grey, RGB or RGBA.

    A 16-bit image keeps the upper eight of its `bits`; what is brighter than they can say is white. Opacity is dropped.
    """
    if pixels.dtype == np.uint16:
        pixels = np.minimum(pixels >> (bits - 8), 255).astype(np.uint8)
    if pixels.ndim == 3 and channels == 1:
        return np.asarray(cv2.cvtColor(pixels[:, :, :3], cv2.COLOR_RGB2GRAY), np.uint8)
    if pixels.ndim == 2 and channels == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return np.ascontiguousarray(pixels[:, :, :3] if pixels.ndim == 3 else pixels)


def default_margin(reference: Reference) -> int:
    """Returns the margin of the union mask where none is given: 1 % of the longer side, pixels."""
    longer: int = max(reference.image.shape[:2])
    return max(1, round(longer / 100))
