"""What lens and sensor do to the light: vignetting, a touch of defocus, shot and read noise, the tone curve."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki.sample_parts.surface import Floats, as_floats, blur


@dataclass(frozen=True)
class Camera:
    """One camera setting; noise is in units of linear light where 1 is white."""

    exposure: float
    defocus: float  # standard deviation, pixels of a 512 image
    vignetting: float  # light lost in the corners, 0..1
    shot_noise: float  # variance per unit of light
    read_noise: float  # standard deviation in the dark


def take_picture(light: Floats, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the light (h, w, 3; linear RGB) as the camera's 8-bit sRGB picture of the same shape."""
    size = light.shape[0]
    exposed = blur(light, camera.defocus * size / 512) * _falloff(size, camera)[..., None]
    noise = blur(rng.standard_normal(light.shape, dtype=np.float32), 0.45) * np.float32(1.35)  # demosaicing smears it
    spread = np.sqrt(camera.shot_noise * np.clip(exposed, 0, None) + np.float32(camera.read_noise**2))
    return _develop(exposed + noise * spread)


def _falloff(size: int, camera: Camera) -> Floats:
    """Return the exposure per pixel, falling towards the corners with the square of the distance."""
    axis = (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)) / np.float32(size / 2)
    squared = (axis * axis)[None, :] + (axis * axis)[:, None]
    return as_floats(camera.exposure * (1 - camera.vignetting * squared / 2))


def _develop(light: Floats) -> NDArray[np.uint8]:
    """Return linear light as sRGB bytes with a soft shoulder instead of hard clipping, by a table of 4096 steps."""
    steps = np.arange(4096, dtype=np.float64) / 4095 * 2  # up to twice white
    rolled = np.where(steps < 0.7, steps, 0.7 + 0.3 * (1 - np.exp(-(steps - 0.7) / 0.3)))
    curve = np.where(rolled <= 0.0031308, 12.92 * rolled, 1.055 * rolled ** (1 / 2.4) - 0.055)
    table = np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8)
    index = np.clip(light * np.float32(4095 / 2) + np.float32(0.5), 0, 4095).astype(np.uint16)
    return np.asarray(table[index], dtype=np.uint8)


def warp(field: Floats, matrix: NDArray[np.float64], size: int) -> Floats:
    """Return a patch's field in the image's frame of `size` pixels; beyond the patch is zero."""
    return as_floats(cv2.warpAffine(field, matrix, (size, size), flags=cv2.INTER_LINEAR))
