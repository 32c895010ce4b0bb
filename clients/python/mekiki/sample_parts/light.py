"""How metal answers light: mirror images of a soft box, a fill light and the room, blurred along the tool marks."""

from dataclasses import dataclass

import numpy as np

from mekiki.sample_parts.surface import Floats, Surface, as_floats, blur, ramp


@dataclass(frozen=True)
class Light:
    """A soft box, a weak fill light opposite and a room; directions in the frame of what is lit."""

    azimuth: float  # radians, where the soft box stands as seen from above (x right, y down)
    elevation: float  # radians above the table
    spread: float  # half the width of the soft box as a slope: larger is softer
    strength: float  # radiance of the soft box
    warmth: float  # -1 (bluish) .. 1 (yellowish)

    def turned(self, angle: float) -> "Light":
        """Return the same light seen from a frame that is turned by `angle` radians."""
        return Light(self.azimuth - angle, self.elevation, self.spread, self.strength, self.warmth)

    @property
    def half_slope(self) -> tuple[float, float]:
        """The slope (dx, dy of the height, negated) of a facet that mirrors the soft box into the camera."""
        steepness = np.cos(self.elevation) / (1 + np.sin(self.elevation))
        return float(np.cos(self.azimuth) * steepness), float(np.sin(self.azimuth) * steepness)

    @property
    def colour(self) -> Floats:
        """The soft box's colour, linear RGB around 1."""
        return np.array([1 + 0.06 * self.warmth, 1.0, 1 - 0.08 * self.warmth], dtype=np.float32)


def shade_surface(surface: Surface, light: Light) -> Floats:
    """Return what the camera sees of the part, linear RGB of shape (h, w, 3), 1 = white paper under the light.

    Facets tilt as the height field and the fine slopes say; each lobe is the long-tailed GGX form of Walter et al.,
    "Microfacet models for refraction through rough surfaces" (2007), stretched across the tool marks.
    """
    smooth = blur(surface.height, 0.7)  # a crest narrower than a sample would glitter
    tilt_y, tilt_x = np.gradient(smooth, np.float32(surface.step))
    tilt_x, tilt_y = surface.slope_x - tilt_x, surface.slope_y - tilt_y
    upright = 1 / np.sqrt(1 + tilt_x * tilt_x + tilt_y * tilt_y)
    open_sky = _open_sky(surface)
    key = light.strength * _lobe(surface, light.half_slope, light.spread, tilt_x, tilt_y)
    fill = 0.32 * _lobe(surface, _opposite(light), 0.35, tilt_x, tilt_y)
    mirrored = (key * open_sky)[..., None] * light.colour + ((fill + _room(light, tilt_x, tilt_y, upright)) * open_sky)[
        ..., None
    ]
    lambert = _lambert(light, tilt_x, tilt_y, upright) * open_sky
    matt = surface.matt[..., None]
    return as_floats(surface.tint * ((1 - matt) * mirrored + matt * lambert[..., None] * light.colour))


def _opposite(light: Light) -> tuple[float, float]:
    x, y = light.half_slope
    return -1.5 * x + 0.12 * y, -1.5 * y - 0.12 * x


def _lobe(surface: Surface, half_slope: tuple[float, float], spread: float, tilt_x: Floats, tilt_y: Floats) -> Floats:
    """Return how much of a light of that half slope and spread each facet mirrors, 0..1."""
    off_x, off_y = tilt_x - np.float32(half_slope[0]), tilt_y - np.float32(half_slope[1])
    along = off_x * surface.grain_x + off_y * surface.grain_y
    across = off_y * surface.grain_x - off_x * surface.grain_y
    wide = np.float32(spread * spread)
    q = along * along / (surface.rough_along**2 + wide) + across * across / (surface.rough_across**2 + wide)
    return as_floats(1 / (1 + np.float32(0.5) * q + q * q))


def _room(light: Light, tilt_x: Floats, tilt_y: Floats, upright: Floats) -> Floats:
    """Return the room's mirror image: ceiling, walls, and the table, which on the far side lies in shadow."""
    up = 2 * upright * upright - 1  # z of the mirrored line of sight
    sunny = (tilt_x * np.float32(np.cos(light.azimuth)) + tilt_y * np.float32(np.sin(light.azimuth))) * upright
    ceiling = np.float32(0.1) + np.float32(0.2) * np.clip(up, 0, 1) + np.float32(0.1) * np.clip(sunny, -1, 1)
    table = np.float32(0.13) + np.float32(0.1) * np.clip(sunny, -1, 1)
    above = ramp(up, -0.15, 0.15)
    return as_floats(np.clip(above * ceiling + (1 - above) * table, np.float32(0.015), None))


def _lambert(light: Light, tilt_x: Floats, tilt_y: Floats, upright: Floats) -> Floats:
    flat = np.cos(light.elevation)
    towards = tilt_x * np.float32(flat * np.cos(light.azimuth)) + tilt_y * np.float32(flat * np.sin(light.azimuth))
    return as_floats(np.clip((towards + np.float32(np.sin(light.elevation))) * upright, 0, None) + np.float32(0.25))


def _open_sky(surface: Surface) -> Floats:
    """Return how much of the sky a sample sees: valleys of a thread and holes see less of it."""
    covered = np.where(surface.inside > 0, surface.height, 0)
    hidden = blur(covered, 4.0 / surface.step) - covered
    return as_floats(1 / (1 + np.float32(0.09) * np.clip(hidden, 0, None)))
