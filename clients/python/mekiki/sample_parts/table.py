"""The matt table under the part: its weave and its light, and the shadow that the part throws on it."""

from dataclasses import dataclass

import cv2
import numpy as np

from mekiki.sample_parts.light import Light
from mekiki.sample_parts.surface import Floats, Grid, as_floats, blur, draw_noise

SLICE = 9.0  # units from one slice of the part to the next, each of which throws a shadow


@dataclass(frozen=True)
class Table:
    """A matt mat: its reflectance in linear RGB and how coarse it feels."""

    reflectance: tuple[float, float, float]
    roughness: float  # standard deviation of the fine texture, as a share of the reflectance


def paint_table(table: Table, size: int, rng: np.random.Generator) -> Floats:
    """Return the mat's reflectance, (size, size, 3): fine grain, faint clouds, a few specks of dust."""
    grid = Grid.around(256, 256, 512 / size)
    grain = 0.75 * draw_noise(rng, grid, 1.15) + 0.55 * draw_noise(rng, grid, 2.6) + 0.25 * draw_noise(rng, grid, 7.0)
    clouds = np.float32(0.018) * draw_noise(rng, grid, 90.0) + np.float32(0.012) * draw_noise(rng, grid, 240.0)
    tone = (1 + np.float32(table.roughness) * grain + clouds)[:size, :size]
    dusty = tone + _scatter_dust(size, rng)
    return as_floats(dusty[..., None] * np.array(table.reflectance, dtype=np.float32))


def _scatter_dust(size: int, rng: np.random.Generator) -> Floats:
    """Return a handful of pale specks, a pixel or two each."""
    specks = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(3, 12))):
        x, y = rng.uniform(0, size, 2)
        radius, strength = rng.uniform(0.35, 0.9) * size / 512, rng.uniform(0.1, 0.4)
        centre = (int(x * 16), int(y * 16))
        cv2.circle(specks, centre, max(int(radius * 16), 6), float(strength), -1, cv2.LINE_8, 4)
    return blur(as_floats(specks), 0.7)


def throw_shadow(height: Floats, coverage: Floats, light: Light, units_per_pixel: float) -> Floats:
    """Return how much of the soft box each pixel of the table loses, 0..1, shape (size, size).

    The part is cut into slices; each slice's outline is shifted away from the light by its height and blurred by the
    width of the penumbra there. `height` (units) and `coverage` (0..1) are in the image's frame.
    """
    small = (height.shape[1] // 2, height.shape[0] // 2)
    low = as_floats(cv2.resize(height * coverage, small, interpolation=cv2.INTER_AREA))
    lit = np.ones(low.shape, dtype=np.float32)
    reach = 1 / (np.tan(light.elevation) * units_per_pixel * 2)  # half-size pixels a unit of height throws
    for level in np.arange(SLICE / 2, float(low.max()), SLICE):
        outline = np.clip((low - np.float32(level)) / np.float32(SLICE) + np.float32(0.5), 0, 1)
        shifted = _shift(outline, -np.cos(light.azimuth) * level * reach, -np.sin(light.azimuth) * level * reach)
        lit = np.minimum(lit, 1 - blur(shifted, 0.6 + 0.42 * light.spread * level * reach))
    shadow = blur(1 - lit, 0.9)
    return as_floats(cv2.resize(shadow, height.shape[::-1], interpolation=cv2.INTER_LINEAR))


def _shift(image: Floats, dx: float, dy: float) -> Floats:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)
    return as_floats(cv2.warpAffine(image, matrix, image.shape[::-1], flags=cv2.INTER_LINEAR))


def hide_sky(height: Floats, coverage: Floats, units_per_pixel: float) -> Floats:
    """Return how much of the room's light the part takes from the table close by, 0..1, shape (size, size)."""
    small = (height.shape[1] // 4, height.shape[0] // 4)
    low = as_floats(cv2.resize(height * coverage / np.float32(60), small, interpolation=cv2.INTER_AREA))
    wide = blur(low, max(6.5 / units_per_pixel, 1.0))
    near = blur(np.minimum(low * 5, 1), 1.0)
    both = np.float32(0.5) * wide + np.float32(0.35) * near
    return as_floats(cv2.resize(both, height.shape[::-1], interpolation=cv2.INTER_LINEAR))
