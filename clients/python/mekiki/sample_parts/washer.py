"""A flat washer: punched, so one edge is rolled, then tumbled, so its face is finely scratched all over."""

import numpy as np

from mekiki.sample_parts.surface import Floats, Grid, Surface, draw_noise

OUTER_RADIUS = 126.0  # units
INNER_RADIUS = 62.0
HEIGHT = 15.0
EXTENT = (OUTER_RADIUS + 8.0, OUTER_RADIUS + 8.0)


def shape_washer(grid: Grid, rng: np.random.Generator) -> Surface:
    """Return the bright steel washer, its rolled edge upwards."""
    radius = np.hypot(grid.x, grid.y)
    outer, inner = np.float32(OUTER_RADIUS) - radius, radius - np.float32(INNER_RADIUS)
    rolled = np.float32(0.07) * np.maximum(np.float32(8) - outer, 0) ** 2
    punched = np.float32(0.3) * np.maximum(np.float32(3.5) - inner, 0) ** 2
    bowed = np.float32(0.5) * draw_noise(rng, grid, 70.0)
    return _finish(grid, rng, radius, np.float32(HEIGHT) - rolled - punched + bowed, np.minimum(outer, inner))


def _finish(grid: Grid, rng: np.random.Generator, radius: Floats, height: Floats, inside: Floats) -> Surface:
    """Brush the face along one direction and tumble it: streaks, with a fine haze over them."""
    streaks = np.float32(0.05) * draw_noise(rng, grid, 0.9, 60.0) + np.float32(0.03) * draw_noise(rng, grid, 2.2, 45.0)
    fine = draw_noise(rng, grid, 1.5)
    tone = 1 + np.float32(0.03) * draw_noise(rng, grid, 45.0) + np.float32(0.02) * draw_noise(rng, grid, 5.0)
    ones = np.ones_like(radius)
    return Surface(
        height=height,
        inside=inside,
        grain_x=ones,
        grain_y=0 * ones,
        rough_along=np.float32(0.13) * ones,
        rough_across=np.float32(0.34) * ones,
        slope_x=np.float32(0.03) * fine,
        slope_y=streaks + np.float32(0.03) * draw_noise(rng, grid, 1.5),
        tint=np.stack([0.6 * tone, 0.595 * tone, 0.58 * tone], axis=-1).astype(np.float32),
        matt=np.float32(0.08) * ones,
        step=grid.step,
    )
