"""The three kinds of part: how each is shaped, how each can bend and break, and where a flaw lands on it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mekiki.sample_parts import nut, screw, washer
from mekiki.sample_parts.surface import Floats, Grid, Surface, as_floats, draw_noise


@dataclass(frozen=True)
class Bend:
    """A part out of its plane or its axis: sample the straight part at `grid`, then raise it by `lift`."""

    grid: Grid
    lift: Floats  # units, (h, w)
    moved: Floats  # how far each sample is from where it belongs, units, (h, w)


@dataclass(frozen=True)
class Part:
    """One kind of part."""

    name: str
    extent: tuple[float, float]  # half width and half height of the patch that holds it, units
    shape: Callable[[Grid, np.random.Generator], Surface]
    bend: Callable[[Grid, np.random.Generator], Bend]
    keep: Callable[[Grid, np.random.Generator], Floats]  # signed distance to a break: positive stays
    spot: Callable[[np.random.Generator], tuple[float, float]]  # a place on the metal, units
    bright: bool  # what its inspection station puts beneath it: a white mat, or a dark one


def _bend_screw(grid: Grid, rng: np.random.Generator) -> Bend:
    """Bend the shank: straight up to a point, then an arc, then straight again."""
    start, run = float(rng.uniform(-70, 20)), float(rng.uniform(50, 90))
    slope = float(np.tan(np.deg2rad(rng.uniform(7.0, 12.0))) * rng.choice([-1, 1]))
    past = np.maximum(grid.x - np.float32(start), 0)
    arc = np.minimum(past, run)
    offset = np.float32(slope) * (arc * arc / np.float32(2 * run) + past - arc)
    return Bend(Grid(grid.x, grid.y - offset, grid.step), np.zeros_like(offset), np.abs(offset))


def _fold_nut(grid: Grid, rng: np.random.Generator) -> Bend:
    """Crush one corner downwards, as a slipped spanner does."""
    corner = np.pi / 3 * float(rng.integers(6)) + float(rng.uniform(-0.2, 0.2))
    crease = float(nut.CORNER_RADIUS - rng.uniform(24, 36))
    return _fold(grid, corner, crease, -np.deg2rad(float(rng.uniform(24, 36))))


def _fold_washer(grid: Grid, rng: np.random.Generator) -> Bend:
    """Fold one side up along a chord."""
    return _fold(
        grid, float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(10, 66)), np.deg2rad(float(rng.uniform(9, 19)))
    )


def _fold(grid: Grid, direction: float, crease: float, angle: float) -> Bend:
    """Turn what lies beyond a crease by `angle` radians about it; it looks foreshortened from above."""
    c, s = np.float32(np.cos(direction)), np.float32(np.sin(direction))
    past = grid.x * c + grid.y * s - np.float32(crease)
    soft = np.where(past > -4, (np.maximum(past + 4, 0) ** 2) / 16, 0)
    arm = np.where(past > 4, past, soft)  # rounds the crease over 8 units
    stretch = arm * np.float32(1 / np.cos(angle) - 1)
    bent = Grid(grid.x + c * stretch, grid.y + s * stretch, grid.step)
    lift = arm * np.float32(np.tan(angle))
    return Bend(bent, lift, np.abs(lift))


def _break_screw(grid: Grid, rng: np.random.Generator) -> Floats:
    """Break the tip off, or a piece of the head's rim."""
    ragged = 1.6 * draw_noise(rng, grid, 5.0) + 0.7 * draw_noise(rng, grid, 2.2)
    if rng.uniform() < 0.6:
        slant = float(rng.uniform(-0.5, 0.5))
        return np.float32(screw.HALF_LENGTH - rng.uniform(34, 80)) - grid.x + np.float32(slant) * grid.y + ragged
    side = float(rng.choice([-1, 1]))
    chip = np.float32(screw.HEAD_RADIUS - rng.uniform(11, 20)) - side * grid.y
    return as_floats(np.maximum(chip, grid.x + np.float32(screw.HALF_LENGTH - 60)) + np.float32(0.6) * ragged)


def _break_nut(grid: Grid, rng: np.random.Generator) -> Floats:
    """Chip a corner off, with the shell-shaped face of a brittle fracture."""
    corner = np.pi / 3 * float(rng.integers(6)) + float(rng.uniform(-0.25, 0.25))
    depth = float(nut.CORNER_RADIUS - rng.uniform(17, 30))
    towards = grid.x * np.float32(np.cos(corner)) + grid.y * np.float32(np.sin(corner))
    return np.float32(depth) - towards + 2.6 * draw_noise(rng, grid, 13.0) + draw_noise(rng, grid, 3.5)


def _break_washer(grid: Grid, rng: np.random.Generator) -> Floats:
    """Bite a piece out of the rim, outer or inner."""
    angle = float(rng.uniform(0, 2 * np.pi))
    rim = washer.OUTER_RADIUS + 4 if rng.uniform() < 0.65 else washer.INNER_RADIUS - 4
    x, y = np.float32(rim * np.cos(angle)), np.float32(rim * np.sin(angle))
    away = np.hypot(grid.x - x, grid.y - y) - np.float32(rng.uniform(17, 30))
    return as_floats(away + 2.0 * draw_noise(rng, grid, 9.0) + 0.8 * draw_noise(rng, grid, 3.0))


def _spot_on_screw(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(-130, 110)), float(rng.uniform(-8, 8))


def _spot_on_ring(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


SCREW = Part("screw", screw.EXTENT, screw.shape_screw, _bend_screw, _break_screw, _spot_on_screw, bright=True)
NUT = Part(
    "nut", nut.EXTENT, nut.shape_nut, _fold_nut, _break_nut, lambda rng: _spot_on_ring(rng, 74, 96), bright=False
)
WASHER = Part(
    "washer",
    washer.EXTENT,
    washer.shape_washer,
    _fold_washer,
    _break_washer,
    lambda rng: _spot_on_ring(rng, 78, 112),
    bright=False,
)
PARTS = (SCREW, NUT, WASHER)
