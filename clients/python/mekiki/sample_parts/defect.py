"""Five ways to spoil a part, each with the truth about where."""

from dataclasses import dataclass, replace

import numpy as np

from mekiki.sample_parts.part import Part
from mekiki.sample_parts.surface import Floats, Grid, Surface, as_floats, blur, draw_noise, ramp

DEFECTS = ("bent", "dent", "discoloured", "missing", "scratch")

RUST = ((0.30, 0.145, 0.065), 0.85)  # reflectance in linear RGB, share that is matt
HEAT = ((0.40, 0.30, 0.22), 0.15)
SOOT = ((0.16, 0.155, 0.15), 0.45)


@dataclass(frozen=True)
class Made:
    """A part as made: its surface and how much of each sample is spoilt, 0..1, (h, w)."""

    surface: Surface
    spoilt: Floats


def make_part(part: Part, grid: Grid, defect: str, texture: np.random.Generator, flaw: np.random.Generator) -> Made:
    """Return the part with the defect, or as it should be when `defect` is empty.

    `texture` draws the metal and `flaw` the defect, so that a part and its faultless twin share every grain.

    Raises:
        ValueError: no defect has that name.
    """
    if defect == "bent":
        return _bend(part, grid, texture, flaw)
    surface = part.shape(grid, texture)
    if not defect:
        return Made(surface, np.zeros_like(surface.height))
    if defect == "missing":
        return _break_off(surface, part.keep(grid, flaw))
    spoil = {"scratch": _scratch, "dent": _dent, "discoloured": _discolour}.get(defect)
    if spoil is None:
        raise ValueError(f"defect must be one of {', '.join(DEFECTS)} or empty, not {defect!r}")
    return spoil(part, grid, surface, flaw)


def _bend(part: Part, grid: Grid, texture: np.random.Generator, flaw: np.random.Generator) -> Made:
    bend = part.bend(grid, flaw)
    surface = part.shape(bend.grid, texture)
    surface = replace(surface, height=surface.height + bend.lift)
    return Made(surface, np.where(bend.moved > np.float32(1.5), surface.coverage, np.float32(0)))


def _break_off(surface: Surface, keep: Floats) -> Made:
    """Take away what lies beyond the break and roughen the broken edge."""
    edge = ramp(keep, 7.0, 0.0)
    broken = replace(
        surface,
        inside=np.minimum(surface.inside, keep),
        height=surface.height - np.float32(0.8) * np.clip(6 - keep, 0, 6) * edge,
        rough_along=surface.rough_along + np.float32(0.35) * edge,
        rough_across=surface.rough_across + np.float32(0.35) * edge,
        tint=surface.tint * (1 - np.float32(0.3) * edge[..., None]),
    )
    return Made(broken, surface.coverage - broken.coverage)


def _scratch(part: Part, grid: Grid, surface: Surface, rng: np.random.Generator) -> Made:
    """Draw something hard across the part: a groove with raised lips that bares the steel."""
    spot_x, spot_y = part.spot(rng)
    angle, half_length = float(rng.uniform(0, np.pi)), float(rng.uniform(30, 64))
    if _is_long(part):
        angle = float(rng.uniform(0.12, 0.6) * rng.choice([-1, 1]))  # a long part is scratched along rather than across
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = grid.x - np.float32(spot_x), grid.y - np.float32(spot_y)
    along, curve = x * c + y * s, float(rng.uniform(-0.0035, 0.0035))
    across = np.abs(y * c - x * s - np.float32(curve) * along * along + 0.35 * draw_noise(rng, grid, 9.0))
    width, depth = float(rng.uniform(1.1, 1.7)), float(rng.uniform(1.4, 2.6))
    pressure = ramp(np.abs(along), half_length, half_length * 0.55)
    groove = np.exp(-((across / np.float32(width)) ** 2)) * pressure
    lips = np.exp(-(((across - np.float32(1.9 * width)) / np.float32(0.7 * width)) ** 2)) * pressure
    scratched = replace(
        surface,
        height=surface.height + np.float32(depth) * (np.float32(0.4) * lips - groove),
        tint=surface.tint * (1 - np.float32(0.6) * groove + np.float32(0.45) * lips)[..., None],
        matt=np.clip(surface.matt + np.float32(0.25) * groove, 0, 1),
    )
    touched = (across < np.float32(2.4 * width)) & (np.abs(along) < np.float32(half_length * 0.93))
    return Made(scratched, np.where(touched, surface.coverage, np.float32(0)))


def _is_long(part: Part) -> bool:
    return part.extent[0] > 1.5 * part.extent[1]


def _dent(part: Part, grid: Grid, surface: Surface, rng: np.random.Generator) -> Made:
    """Press a blunt thing into the part: a hollow with a low rim, the thread flattened where it was hit."""
    spot_x, spot_y = part.spot(rng)
    radius, depth = float(rng.uniform(9, 15)), float(rng.uniform(3.2, 6.0))
    if _is_long(part):
        radius, depth = 1.4 * radius, 1.5 * depth  # what bends no face crushes a few turns of a thread
    angle, stretch = float(rng.uniform(0, np.pi)), float(rng.uniform(1.0, 1.5))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = grid.x - np.float32(spot_x), grid.y - np.float32(spot_y)
    away = np.hypot((x * c + y * s) / np.float32(stretch), y * c - x * s) / np.float32(radius)
    hollow = np.exp(-(np.abs(away) ** np.float32(2.6)))
    rim = np.exp(-(((away - np.float32(1.35)) / np.float32(0.28)) ** 2))
    relief = surface.height - blur(surface.height, 6.0 / grid.step)
    flat = np.float32(0.95) * hollow * np.where(surface.inside > 3, relief, 0)
    pressed = surface.height - flat - np.float32(depth) * (hollow - np.float32(0.16) * rim)
    nicked = as_floats(surface.inside - 0.8 * depth * hollow)  # where the blow reaches the outline
    return Made(
        replace(surface, height=pressed, inside=nicked),
        np.where(away < np.float32(1.15), surface.coverage, np.float32(0)),
    )


def _discolour(part: Part, grid: Grid, surface: Surface, rng: np.random.Generator) -> Made:
    """Let it rust, glow or soot: an irregular patch with a soft edge."""
    spot_x, spot_y = part.spot(rng)
    away = np.hypot(grid.x - np.float32(spot_x), grid.y - np.float32(spot_y)) / np.float32(rng.uniform(17, 31))
    ragged = 0.3 * draw_noise(rng, grid, 11.0) + 0.14 * draw_noise(rng, grid, 4.0)
    blend = ramp(1 - away + np.clip(ragged, -0.7, 0.7), -0.05, 0.5) * np.float32(rng.uniform(0.75, 1.0))
    colour, matt = (RUST, HEAT, SOOT)[int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    mottled = np.array(colour, dtype=np.float32) * (1 + np.float32(0.16) * draw_noise(rng, grid, 3.0))[..., None]
    stained = replace(
        surface,
        tint=surface.tint * (1 - blend[..., None]) + mottled * blend[..., None],
        matt=surface.matt * (1 - blend) + np.float32(matt) * blend,
    )
    return Made(stained, np.where(blend > np.float32(0.2), surface.coverage, np.float32(0)))
