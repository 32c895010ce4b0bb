"""What the page shows of pixels and heat maps, as files."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_SIDE = 256
"""Longer side, pixels."""
PICTURE_SIDE = 4096
"""Longer pictures are shrunk to it; boxes are counted in the item's own pixels all the same."""
EXACT_PIXELS = 512 * 512
"""Pictures of no more are sent without loss."""

# From transparent over vermilion to pale yellow, as in reports: lighter always means more, in colour and in grey.
_STOPS = np.array([0.0, 0.35, 0.7, 1.0])
_COLOURS = np.array([[150, 30, 0, 0], [213, 94, 0, 158], [240, 178, 20, 204], [255, 246, 170, 235]], dtype=np.float64)


@dataclass(frozen=True)
class Picture:
    """A file for the browser."""

    data: bytes
    media_type: str


def draw_thumbnail(pixels: NDArray[Any]) -> Picture:
    """A small picture of an image, (h, w) or (h, w, 1|3|4) of 8 or 16 bits."""
    image = _open(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return _write(_flatten(image), "JPEG", quality=84)


def draw_picture(pixels: NDArray[Any]) -> Picture:
    """The picture that a person judges; exact where it is small."""
    image = _open(pixels)
    if image.mode == "RGBA" or image.width * image.height <= EXACT_PIXELS:
        return _write(image, "PNG", compress_level=1)
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return _write(image, "JPEG", quality=93, subsampling=0)


def paint_heat(values: NDArray[np.float32], low: float, high: float) -> Picture:
    """A heat map (h, w) to lay over its image: nothing at `low` or less, full colour at `high` or more."""
    strength = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    channels = [np.interp(strength, _STOPS, _COLOURS[:, channel]) for channel in range(4)]
    return _write(Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8), "RGBA"), "PNG", compress_level=1)


def _open(pixels: NDArray[Any]) -> Image.Image:
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return Image.fromarray(_stretch(flat) if flat.dtype != np.uint8 else flat)


def _stretch(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """16 bits as 8: cameras of 12 bits use little of the range, so what there is fills it."""
    low, high = int(pixels.min()), int(pixels.max())
    return np.asarray((pixels.astype(np.float32) - low) * (255 / max(high - low, 1)), dtype=np.uint8)


def _flatten(image: Image.Image) -> Image.Image:
    """Transparent pixels on grey."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGB", image.size, (96, 96, 96))
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _write(image: Image.Image, form: str, **options: int) -> Picture:
    file = io.BytesIO()
    image.save(file, form, **options)
    return Picture(file.getvalue(), f"image/{form.lower()}")
