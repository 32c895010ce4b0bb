"""Another light, another camera: brightness, contrast, colour, blur and noise."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tone:
    """How far light and camera may differ; 0 each: not at all."""

    light: float = 0.2
    """Brightness and contrast by up to this share."""

    colour: float = 0.04
    """Each channel by up to this share."""

    blur_px: float = 0.8
    """Standard deviation of the blur, up to so many pixels, in every other picture."""

    noise: float = 0.015
    """Standard deviation of the noise, up to this share of the full range."""

    def apply(self, rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the pixels in another light, (h, w) or (h, w, 3) uint8."""
        light, contrast = 1 + rng.uniform(-self.light, self.light, 2)
        channels = 1 + rng.uniform(-self.colour, self.colour, 3)
        blur = rng.uniform(0, self.blur_px) if rng.random() < 0.5 else 0.0
        noise = rng.uniform(0, self.noise) * 255
        toned = pixels.astype(np.float32)
        middle = float(toned.mean())
        toned = (toned - middle) * np.float32(contrast) + np.float32(middle * light)
        if toned.ndim == 3:
            toned *= channels.astype(np.float32)
        if blur > 0.2:
            toned = np.asarray(cv2.GaussianBlur(toned, (0, 0), blur), np.float32)
        toned += rng.standard_normal(toned.shape, np.float32) * np.float32(noise)
        return np.clip(np.rint(toned), 0, 255).astype(np.uint8)
