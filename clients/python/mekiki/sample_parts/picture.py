"""One picture: the part put on the table, lit, and seen by the camera, with the truth about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mekiki.sample_parts.camera import take_picture, warp
from mekiki.sample_parts.defect import Made, make_part
from mekiki.sample_parts.light import shade_surface
from mekiki.sample_parts.part import Part
from mekiki.sample_parts.scene import Pose, Scene
from mekiki.sample_parts.surface import Floats, Grid, as_floats, blur
from mekiki.sample_parts.table import hide_sky, paint_table, throw_shadow

OVERSAMPLING = 1.6  # samples of the part per pixel of the picture
SKY, LAMP = 0.36, 0.72  # shares of the table's light

Streams = tuple[int, ...]


@dataclass(frozen=True)
class Picture:
    """A rendered picture and its truth, all of one size."""

    pixels: NDArray[np.uint8]  # (size, size, 3) RGB
    part: NDArray[np.bool_]  # (size, size) where the part is
    spoilt: NDArray[np.bool_]  # (size, size) where its defect is; of a missing piece, where it should be


@dataclass(frozen=True)
class Together:
    """A rendered picture of several parts, and where each of them is."""

    pixels: NDArray[np.uint8]  # (size, size, 3) RGB
    parts: tuple[NDArray[np.bool_], ...]  # (size, size) each


@dataclass(frozen=True)
class _Seen:
    """A part in the image's frame, before the lens."""

    light: Floats  # (size, size, 3) linear, times coverage
    coverage: Floats  # (size, size)
    height: Floats  # (size, size) units above the table
    spoilt: Floats  # (size, size)


def render_picture(part: Part | None, defect: str, scene: Scene, size: int, seed: Streams) -> Picture:
    """Return the picture of a part (or of the bare table), the same for the same arguments to the last bit.

    `seed` alone decides on grain, dust, flaw and noise, each drawn from its own stream, so that the same seed with
    and without a defect gives twins.
    """
    table, texture, flaw, noise = (np.random.default_rng((*seed, stream)) for stream in range(4))
    mat = paint_table(scene.table, size, table)
    if part is None:
        bare = _see_nothing(size)
        return _expose(bare, mat, scene, noise)
    return _expose(_see_part(part, defect, scene, size, texture, flaw), mat, scene, noise)


def render_parts_together(parts: Sequence[tuple[Part, Pose]], scene: Scene, size: int, seed: Streams) -> Together:
    """Return the picture of several parts on one table, under one light; `scene.pose` does not count.

    Parts throw shadows on the table and hide it, and do not hide each other: poses must keep them apart.
    """
    table, texture, flaw, noise = (np.random.default_rng((*seed, stream)) for stream in range(4))
    mat = paint_table(scene.table, size, table)
    seen = [_see_part(part, "", replace(scene, pose=pose), size, texture, flaw) for part, pose in parts]
    light, coverage, height, spoilt = (
        as_floats(sum(getattr(each, name) for each in seen)) for name in ("light", "coverage", "height", "spoilt")
    )
    whole = _Seen(light, np.minimum(coverage, 1), height, spoilt)
    pixels = _expose(whole, mat, scene, noise).pixels
    return Together(pixels, tuple(each.coverage >= np.float32(0.5) for each in seen))


def _see_nothing(size: int) -> _Seen:
    nothing = np.zeros((size, size), dtype=np.float32)
    return _Seen(np.zeros((size, size, 3), dtype=np.float32), nothing, nothing, nothing)


def _see_part(
    part: Part, defect: str, scene: Scene, size: int, texture: np.random.Generator, flaw: np.random.Generator
) -> _Seen:
    """Make the part on its own grid, light it there, and turn the result into the image's frame."""
    step = 512 / (size * scene.pose.scale * OVERSAMPLING)
    made = make_part(part, Grid.around(*part.extent, step), defect, texture, flaw)
    light = shade_surface(made.surface, scene.light.turned(scene.pose.angle))
    layers = _stack_layers(made, light)
    rows, columns = layers.shape[:2]
    turned = warp(layers, scene.pose.matrix(columns, rows, step, size), size)
    coverage = turned[..., 3]
    height = as_floats(turned[..., 5] / np.maximum(coverage, 0.2) * scene.pose.scale)
    return _Seen(turned[..., :3], coverage, height, turned[..., 4])


def _stack_layers(made: Made, light: Floats) -> Floats:
    """Return light, coverage, spoilt share and height as (h, w, 6), smoothed for the coarser grid of the image."""
    coverage = made.surface.coverage[..., None]
    extra = np.stack([made.spoilt, made.surface.height * coverage[..., 0]], axis=-1)
    return blur(np.concatenate([light * coverage, coverage, extra], axis=-1).astype(np.float32), OVERSAMPLING * 0.38)


def _expose(seen: _Seen, mat: Floats, scene: Scene, noise: np.random.Generator) -> Picture:
    """Light the table around the part, lay the part over it and take the picture."""
    units_per_pixel = 512 / mat.shape[0]
    bare = 1 - seen.coverage
    lamp = bare * LAMP * (1 - throw_shadow(seen.height, seen.coverage, scene.light, units_per_pixel))
    sky = bare * SKY * (1 - hide_sky(seen.height, seen.coverage, units_per_pixel))
    light = as_floats(mat * (sky[..., None] + lamp[..., None] * scene.light.colour) + seen.light)
    pixels = take_picture(light, scene.camera, noise)
    return Picture(pixels, seen.coverage >= np.float32(0.5), seen.spoilt >= np.float32(0.5))
