"""Where the part lies, where the light stands, what the camera is set to: all that chance decides but the metal."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mekiki.sample_parts.camera import Camera
from mekiki.sample_parts.light import Light
from mekiki.sample_parts.table import Table


@dataclass(frozen=True)
class Pose:
    """Where a part lies: turned by `angle` radians about its centre, in units of a 512th of the image's side."""

    angle: float
    x: float
    y: float
    scale: float

    def matrix(self, columns: int, rows: int, step: float, size: int) -> NDArray[np.float64]:
        """Return the 2x3 map from a patch's samples (column, row; its middle is the part's centre) to pixels."""
        zoom = self.scale * size / 512
        cosine, sine = np.cos(self.angle) * step * zoom, np.sin(self.angle) * step * zoom
        middle_x, middle_y = (columns - 1) / 2, (rows - 1) / 2
        x, y = self.x * size / 512 - 0.5, self.y * size / 512 - 0.5
        return np.array(
            [
                [cosine, -sine, x - cosine * middle_x + sine * middle_y],
                [sine, cosine, y - sine * middle_x - cosine * middle_y],
            ]
        )


@dataclass(frozen=True)
class Scene:
    """One picture's circumstances."""

    pose: Pose
    light: Light
    table: Table
    camera: Camera


def draw_station(rng: np.random.Generator, *, bright: bool) -> Scene:
    """Return an inspection station's picture: free rotation, a small shift, lamp and camera nearly fixed.

    `bright`: a white mat under a broad, high lamp, against which a shaded part stands out, instead of a dark mat.
    """
    x, y = 256 + rng.uniform(-16, 16, 2)
    pose = Pose(float(rng.uniform(0, 2 * np.pi)), float(x), float(y), float(rng.uniform(0.98, 1.02)))
    light, table = _draw_light(rng, np.deg2rad(-128), 0.45), _draw_table(rng, 0.05)
    if bright:
        light = replace(light, elevation=light.elevation + np.deg2rad(22), spread=0.35, strength=0.65 * light.strength)
        red, green, blue = table.reflectance
        table = Table((6.3 * red, 6.3 * green, 6.3 * blue), 0.5 * table.roughness)
    return Scene(pose, light, table, _draw_camera(rng))


def draw_handheld(rng: np.random.Generator) -> Scene:
    """Return a picture as someone walking past takes it: the part anywhere, nearer or farther, lamp and mat vary."""
    scale = float(rng.uniform(0.75, 1.1))
    room = 250 - 200 * scale
    x, y = 256 + rng.uniform(-room, room, 2)
    pose = Pose(float(rng.uniform(0, 2 * np.pi)), float(x), float(y), scale)
    return Scene(
        pose, _draw_light(rng, float(rng.uniform(0, 2 * np.pi)), 0.3), _draw_table(rng, 0.35), _draw_camera(rng)
    )


def _draw_light(rng: np.random.Generator, azimuth: float, wander: float) -> Light:
    return Light(
        azimuth=azimuth + float(rng.uniform(-wander, wander)),
        elevation=float(np.deg2rad(rng.uniform(46, 58))),
        spread=float(rng.uniform(0.1, 0.17)),
        strength=float(rng.uniform(1.7, 2.3)),
        warmth=float(rng.uniform(-0.4, 0.8)),
    )


def _draw_table(rng: np.random.Generator, variety: float) -> Table:
    tone = 0.135 * (1 + variety * float(rng.uniform(-1, 1)))
    red, blue = 1 + 0.02 * float(rng.normal()), 1 + 0.02 * float(rng.normal())
    return Table((tone * 0.93 * red, tone, tone * 1.06 * blue), float(rng.uniform(0.035, 0.05)))


def _draw_camera(rng: np.random.Generator) -> Camera:
    return Camera(
        exposure=float(rng.uniform(0.93, 1.07)),
        defocus=float(rng.uniform(0.45, 0.8)),
        vignetting=float(rng.uniform(0.14, 0.24)),
        shot_noise=0.00022,
        read_noise=0.0022,
    )
