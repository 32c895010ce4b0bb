"""What a part is made of, sample by sample: a height field with a skin.

Lengths are *units*: a 512th of the image's side at scale 1, so that a part looks the same at every size of image.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]  # every field of this package


@dataclass(frozen=True)
class Grid:
    """Where a patch is sampled, in units from the part's centre; x runs along the part."""

    x: Floats  # (h, w)
    y: Floats  # (h, w)
    step: float  # units from one sample to the next

    @staticmethod
    def around(half_width: float, half_height: float, step: float) -> "Grid":
        """Return a grid centred on the part, reaching the given distances to either side."""
        columns, rows = int(np.ceil(half_width / step)), int(np.ceil(half_height / step))
        x = (np.arange(-columns, columns + 1, dtype=np.float32) * np.float32(step))[None, :]
        y = (np.arange(-rows, rows + 1, dtype=np.float32) * np.float32(step))[:, None]
        shape = (2 * rows + 1, 2 * columns + 1)
        return Grid(np.broadcast_to(x, shape).copy(), np.broadcast_to(y, shape).copy(), step)


@dataclass(frozen=True)
class Surface:
    """A part as the light meets it. Every field is (h, w) float32, `tint` (h, w, 3)."""

    height: Floats  # units above the table
    inside: Floats  # signed distance to the outline, units, positive on the part
    grain_x: Floats  # unit vector along the tool marks
    grain_y: Floats
    rough_along: Floats  # spread of the microscopic slopes along the tool marks
    rough_across: Floats  # and across them
    slope_x: Floats  # slopes too fine for the height field: tool marks, plating
    slope_y: Floats
    tint: Floats  # reflectance of the bare metal, linear RGB
    matt: Floats  # share of the surface that reflects like paint, 0..1
    step: float  # units from one sample to the next

    @property
    def coverage(self) -> Floats:
        """Share of each sample that the part covers, 0..1."""
        return as_floats(np.clip(self.inside / np.float32(self.step) + np.float32(0.5), 0, 1))


def draw_noise(rng: np.random.Generator, grid: Grid, cell: float, stretch: float = 1.0) -> Floats:
    """Return smooth noise of variance about one whose blobs are `cell` units tall and `cell * stretch` wide."""
    rows, columns = grid.x.shape
    if cell < 3 * grid.step and stretch == 1.0:
        sigma = 0.5 * cell / grid.step
        white = rng.standard_normal((rows, columns), dtype=np.float32)
        return blur(white, sigma) * np.float32(max(1.0, 2 * np.sqrt(np.pi) * sigma))  # blurring takes that much
    coarse_rows = max(3, int(np.ceil(rows * grid.step / cell)) + 1)
    coarse_columns = max(3, int(np.ceil(columns * grid.step / (cell * stretch))) + 1)
    coarse = rng.standard_normal((coarse_rows, coarse_columns), dtype=np.float32)
    return as_floats(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC))


def ramp(values: Floats, low: float, high: float) -> Floats:
    """Return the smooth step from 0 at `low` to 1 at `high` (falling when `high` is the smaller)."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return as_floats(t * t * (3 - 2 * t))


def blur(values: Floats, sigma: float) -> Floats:
    """Return the field under a Gaussian of `sigma` samples."""
    return as_floats(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def as_floats(values: object) -> Floats:
    """Return any array as this package's fields are kept: float32."""
    return np.asarray(values, dtype=np.float32)
