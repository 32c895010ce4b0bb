"""A hexagon nut lying flat: chamfered corners, a turned face, the threaded hole seen in slight perspective."""

import numpy as np

from mekiki.sample_parts.surface import Floats, Grid, Surface, as_floats, draw_noise, ramp

FLAT_RADIUS = 104.0  # half the width across flats, units
CORNER_RADIUS = FLAT_RADIUS / np.cos(np.pi / 6)
HOLE_RADIUS = 54.0
SINK_RADIUS = 64.0  # where the countersink meets the face
WALL = 13.0  # how much of the hole's wall the camera sees
HEIGHT = 78.0
EXTENT = (CORNER_RADIUS + 8.0, CORNER_RADIUS + 8.0)


def shape_nut(grid: Grid, rng: np.random.Generator) -> Surface:
    """Return the steel nut with one of its flats upwards."""
    radius = np.hypot(grid.x, grid.y)
    flats = _distance_to_flats(grid)
    height = np.float32(HEIGHT) - _chamfer(radius) - _round_edge(flats) - _hole(grid, radius, float(rng.uniform(0, 1)))
    inside = np.minimum(flats, radius - np.float32(HOLE_RADIUS - WALL))
    return _finish(grid, rng, radius, height, inside)


def _distance_to_flats(grid: Grid) -> Floats:
    """Return how deep inside the hexagon a sample lies, units."""
    half = np.float32(np.sqrt(3) / 2)
    ax, ay = np.abs(grid.x), np.abs(grid.y)
    return np.float32(FLAT_RADIUS) - np.maximum(ay, ay / 2 + ax * half)


def _chamfer(radius: Floats) -> Floats:
    """Return what the 30 degree turning of the corners takes away."""
    past = radius - np.float32(FLAT_RADIUS - 5)
    return as_floats(np.float32(0.62) * np.sqrt(np.maximum(past, 0) ** 2 + 1.5) * ramp(past, -1.5, 1.5))


def _round_edge(flats: Floats) -> Floats:
    return as_floats(np.float32(0.55) * np.maximum(np.float32(3.2) - flats, 0) ** 2)


def _hole(grid: Grid, radius: Floats, turn: float) -> Floats:
    """Return the depth of the countersink and of the threaded wall below it."""
    sink = np.maximum(np.float32(SINK_RADIUS) - radius, 0)
    down = np.clip((np.float32(HOLE_RADIUS) - radius) / np.float32(WALL), 0, 1)
    angle = np.arctan2(grid.y, grid.x) / np.float32(2 * np.pi)
    phase = 3 * down ** np.float32(1.15) + angle + np.float32(turn)
    thread = np.float32(7) * np.cos(np.float32(2 * np.pi) * phase) * ramp(down, 0.02, 0.12)
    return as_floats(np.minimum(sink, SINK_RADIUS - HOLE_RADIUS) * np.float32(0.8) + down * np.float32(30) + thread)


def _finish(grid: Grid, rng: np.random.Generator, radius: Floats, height: Floats, inside: Floats) -> Surface:
    """Turn the face: rings about the hole that the light stretches to a bow tie."""
    safe = np.maximum(radius, 1)
    grain_x, grain_y = as_floats(-grid.y / safe), as_floats(grid.x / safe)
    rings = _rings(rng, radius, 0.9) * np.float32(0.05) + _rings(rng, radius, 4.0) * np.float32(0.025)
    fine = draw_noise(rng, grid, 1.4)
    tone = 1 + np.float32(0.035) * draw_noise(rng, grid, 40.0) + np.float32(0.03) * draw_noise(rng, grid, 6.0)
    turned = ramp(inside, 0, 3) * ramp(radius, FLAT_RADIUS + 4, FLAT_RADIUS - 2)
    return Surface(
        height=height,
        inside=inside,
        grain_x=grain_x,
        grain_y=grain_y,
        rough_along=0.15 - 0.03 * turned,
        rough_across=0.2 + 0.16 * turned,
        slope_x=grain_y * -rings + np.float32(0.03) * fine,
        slope_y=grain_x * rings + np.float32(0.03) * draw_noise(rng, grid, 1.4),
        tint=np.stack([0.6 * tone, 0.6 * tone, 0.61 * tone], axis=-1).astype(np.float32),
        matt=np.full_like(height, 0.1),
        step=grid.step,
    )


def _rings(rng: np.random.Generator, radius: Floats, pitch: float) -> Floats:
    """Return noise that depends on the radius alone, as a turning tool leaves it."""
    profile = rng.standard_normal(256, dtype=np.float32)
    return as_floats(np.interp(radius / np.float32(pitch), np.arange(256), profile).astype(np.float32))
