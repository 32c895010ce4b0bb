"""A countersunk wood screw lying on its side: a surface of revolution with a helical thread."""

import numpy as np

from mekiki.sample_parts.surface import Floats, Grid, Surface, as_floats, draw_noise, ramp

LENGTH = 372.0  # head to tip, all lengths in units
HALF_LENGTH = LENGTH / 2
HEAD_RADIUS = 43.0
SHANK_RADIUS = 19.0
CORE_RADIUS = 15.0
THREAD_DEPTH = 9.5
PITCH = 18.5
THREAD_START = 104.0
TAPER_START = 306.0
EXTENT = (HALF_LENGTH + 14.0, 84.0)  # room for a bent one


def shape_screw(grid: Grid, rng: np.random.Generator) -> Surface:
    """Return the zinc-plated screw, its head to the left, turned about its axis by chance."""
    turn, wear = float(rng.uniform(0, 1)), draw_noise(rng, grid, 30.0)
    along = grid.x + np.float32(HALF_LENGTH)
    radius = _radius(along, grid.y, turn, wear)
    below = np.maximum(radius * radius - grid.y * grid.y, 0)
    axis = np.float32(HEAD_RADIUS) - (HEAD_RADIUS - CORE_RADIUS - THREAD_DEPTH) * np.clip(along / TAPER_START, 0, 1)
    ends = np.minimum(along, LENGTH - along)
    return _plate(grid, rng, axis + np.sqrt(below), np.minimum(radius - np.abs(grid.y), ends))


def _radius(along: Floats, across: Floats, turn: float, wear: Floats) -> Floats:
    """Return the distance of the metal from the axis, seen from above, per sample."""
    body = _body_radius(along)
    sine = np.clip(across / (body + np.float32(THREAD_DEPTH * 0.6)), -1, 1)
    phase = along / np.float32(PITCH) + np.arcsin(sine) / np.float32(2 * np.pi) + np.float32(turn)
    off_crest = (phase - np.floor(phase) - np.float32(0.5)) / np.float32(0.15)
    crest = np.exp(-(np.abs(off_crest) ** np.float32(1.6)))
    depth = THREAD_DEPTH * ramp(along, THREAD_START - 10, THREAD_START + 16) * ramp(along, LENGTH + 4, TAPER_START)
    return as_floats(body + depth * crest * (1 + np.float32(0.05) * wear))


def _body_radius(along: Floats) -> Floats:
    """Return the radius without the thread: rim, cone, shank, core and point."""
    knots = np.array(
        [-4, 0, 3, 7, 9.5, 14, 37, 44, 52, THREAD_START - 8, THREAD_START + 8, TAPER_START, LENGTH - 4, LENGTH],
        dtype=np.float32,
    )
    shank, core = SHANK_RADIUS, CORE_RADIUS
    radii = np.array(
        [
            HEAD_RADIUS - 2.5, HEAD_RADIUS - 2, HEAD_RADIUS, HEAD_RADIUS, HEAD_RADIUS - 1.2, HEAD_RADIUS - 6,
            shank + 2.5, shank + 0.6, shank, shank, core, core, 2.2, 0.3,
        ],
        dtype=np.float32,
    )  # fmt: skip
    return np.interp(along, knots, radii).astype(np.float32)


def _plate(grid: Grid, rng: np.random.Generator, height: Floats, inside: Floats) -> Surface:
    """Clothe the screw in zinc: rolled along the thread, turned on the head, slightly uneven in colour."""
    fine, coarse = draw_noise(rng, grid, 1.3, 2.5), draw_noise(rng, grid, 9.0)
    tone = 1 + np.float32(0.03) * draw_noise(rng, grid, 34.0) + np.float32(0.025) * coarse
    ones = np.ones_like(height)
    return Surface(
        height=height,
        inside=inside,
        grain_x=0 * ones,
        grain_y=ones,
        rough_along=np.float32(0.17) * ones,
        rough_across=np.float32(0.2) * ones,
        slope_x=np.float32(0.045) * fine + np.float32(0.02) * coarse,
        slope_y=np.float32(0.04) * draw_noise(rng, grid, 1.6),
        tint=np.stack([0.76 * tone, 0.75 * tone, 0.72 * tone], axis=-1).astype(np.float32),
        matt=np.float32(0.06) * ones,
        step=grid.step,
    )
