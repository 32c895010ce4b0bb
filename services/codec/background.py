"""Which pixels of an image belong to the part.

Both methods look at a copy of at most 512 pixels a side: the mask only guides alignment and blanking.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.codec.rembg_process import RembgProcess
from services.runtime.errors import FailedPrecondition, InvalidArgument

Image = NDArray[np.uint8]  # (h, w) or (h, w, 3)
Mask = NDArray[np.bool_]  # (h, w)

CONTRAST = "contrast"
REMBG = "rembg"
MODEL_FILE = "u2netp.onnx"

_WORK_SIDE = 512
_BORDER_SHARE = 0.03
_LEAST_PART = 0.05
"""A component that has less than this share of the largest one's area is dirt, not part."""
_SOFTNESS = 1 / 640
_LEAST_DISTANCE, _LEAST_SLOPE = 4.0, 2.0
_LEAST_HOLE = 0.1
"""A hole with less background than this share of the part's area is a highlight."""


@dataclass(frozen=True)
class Remover:
    """A method of background removal that is ready to be used.

    Attributes:
        method: "contrast" or "rembg".
        description: what is used and why, as a sentence for people.
    """

    method: str
    description: str
    process: RembgProcess | None = None

    def find_part(self, image: Image) -> Mask:
        """Returns the part's mask, (h, w); empty where nothing stands out.

        Raises:
            Unavailable: the process that runs the network does not answer.
        """
        small = _shrink(image)
        mask = find_contrast(small) if self.process is None else self.process.find_foreground(small) >= 128
        return _enlarge(mask, image.shape[:2])


def open_remover(method: str, process: RembgProcess | None, searched: Path) -> Remover:
    """Returns the remover of a method.

    Args:
        method: "auto" (rembg where it can be had, else contrast), "contrast" or "rembg".
        process: runs the network; None where there is no model file.
        searched: the folder where the model file was looked for.

    Raises:
        FailedPrecondition: rembg is asked for and its model is missing; the message names the file and the folder.
        InvalidArgument: no such method.
    """
    if method not in ("auto", CONTRAST, REMBG):
        raise InvalidArgument("background", f"must be auto, contrast or rembg, is {method!r}")
    missing = f"put {MODEL_FILE} into {searched}"
    if method == REMBG and process is None:
        raise FailedPrecondition("WEIGHTS_MISSING", f"background removal by rembg is not available: {missing}")
    if method == CONTRAST:
        return Remover(CONTRAST, "Background found by contrast against the border's colour, as asked.")
    if process is None:
        return Remover(CONTRAST, f"Background found by contrast against the border's colour; for rembg {missing}.")
    return Remover(REMBG, "Background found by rembg (U^2-Net, small).", process)


def find_contrast(image: Image) -> Mask:
    """Returns what differs from the ground that is seen along the image's border, (h, w).

    A part has edges, or is lighter than the ground; a shadow has neither, which tells it from a dark part. What the
    edges enclose is filled unless it is ground again (a washer's hole), and bits far smaller than the largest are
    dropped. Cuts are made by Otsu's method (1979), never below what the ground itself scatters.
    """
    channels = cv2.GaussianBlur(image, (0, 0), max(_SOFTNESS * max(image.shape[:2]), 0.5)).astype(np.float32)
    channels = channels.reshape(*image.shape[:2], -1)
    offset = channels - np.median(_border_pixels(channels), axis=0)  # (h, w, channels)
    distance = np.sqrt(_average(offset**2))
    ground = _limit_of_scatter(distance, 6.0)
    cut = _otsu(distance)
    slope = _measure_slope(channels)
    edge = slope > max(_limit_of_scatter(slope, 10.0), 0.4 * _otsu(slope), _LEAST_SLOPE)
    part: Mask = edge | (_average(offset) > max(ground, 0.5 * cut, _LEAST_DISTANCE))
    part |= _mark_rim(distance > max(ground, cut, _LEAST_DISTANCE))
    if not part.any():
        return part
    filled = _fill(_close(part), distance <= max(ground, _LEAST_DISTANCE))
    return _round_off(filled, distance < cut)


def find_border_colour(image: Image) -> tuple[int, ...]:
    """Returns the median colour along the image's border, one value a channel."""
    pixels = _border_pixels(image.reshape(*image.shape[:2], -1))
    return tuple(round(float(value)) for value in np.median(pixels, axis=0))


def _measure_slope(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns how steeply the colour changes, per pixel, (h, w)."""
    across = cv2.Scharr(channels, cv2.CV_32F, 1, 0).reshape(channels.shape)
    down = cv2.Scharr(channels, cv2.CV_32F, 0, 1).reshape(channels.shape)
    return np.asarray(np.sqrt(_average(across**2 + down**2)) / 16, np.float32)


def _average(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the mean over the channels, (h, w); of a single one it is that one, and far faster."""
    return np.asarray(channels[..., 0] if channels.shape[2] == 1 else channels.mean(axis=2), np.float32)


def _limit_of_scatter(values: NDArray[np.float32], deviations: float) -> float:
    """Returns the value that the ground along the border stays below, by its median absolute deviation."""
    border = _border_pixels(values)
    middle = float(np.median(border))
    return middle + deviations * 1.4826 * float(np.median(np.abs(border - middle)))


def _mark_rim(outstanding: Mask) -> Mask:
    """Returns where something stands out at the very border: there the image's end closes a part's outline."""
    rim = np.zeros_like(outstanding)
    rim[[0, -1]], rim[:, [0, -1]] = outstanding[[0, -1]], outstanding[:, [0, -1]]
    return rim


def _otsu(values: NDArray[np.float32]) -> float:
    """Returns Otsu's threshold, in steps of 1/255 of the largest value."""
    scale = 255 / max(float(values.max()), 1e-6)
    cut, _ = cv2.threshold((values * scale).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(cut) / scale


def _border_pixels(values: NDArray[Any]) -> NDArray[Any]:
    """Returns the pixels of a frame along the border, (n, ...)."""
    rim = max(2, round(_BORDER_SHARE * min(values.shape[:2])))
    inner = np.ones(values.shape[:2], bool)
    inner[rim:-rim, rim:-rim] = False
    pixels: NDArray[Any] = values[inner]
    return pixels


def _close(mask: Mask) -> NDArray[np.uint8]:
    size = 2 * max(1, round(max(mask.shape) / 150)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel), np.uint8)


def _round_off(mask: Mask, ground: Mask) -> Mask:
    """Takes back the ground that edges stand over, thin lines, and small bits."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), disc, iterations=2, borderType=cv2.BORDER_REPLICATE)
    peeled = (mask & ~(ground & (inner == 0))).astype(np.uint8)
    return _keep_large(np.asarray(cv2.morphologyEx(peeled, cv2.MORPH_OPEN, disc), np.uint8)).astype(bool)


def _keep_large(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    large = areas >= max(_LEAST_PART * areas.max(), 1)
    return np.asarray(large[labels], np.uint8)


def _fill(mask: NDArray[np.uint8], background: Mask) -> Mask:
    """Fills holes that hold little background: highlights, not the open hole of a washer."""
    count, labels = cv2.connectedComponents(1 - mask, connectivity=4)
    open_area = np.bincount(labels[background], minlength=count)
    filled = open_area < _LEAST_HOLE * mask.sum()
    filled[0] = True  # the mask itself
    filled[np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])] = False  # the surroundings
    return np.asarray(filled[labels] | mask.astype(bool))


def _shrink(image: Image) -> Image:
    factor = _WORK_SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _enlarge(mask: Mask, shape: tuple[int, ...]) -> Mask:
    if mask.shape == shape:
        return mask
    grey = cv2.resize(mask.astype(np.uint8) * 255, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return grey >= 128
