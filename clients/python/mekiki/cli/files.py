"""Files that commands write: never outside the folder that was named, whatever an item is called."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cli.folder import SUFFIXES

PART_LIMIT = 120  # characters of one name; file systems hold 255 bytes

Pixels = NDArray[Any]


class Places:
    """Gives each item a path of its own below a folder."""

    def __init__(self, out: Path, suffix: str) -> None:
        self._out = out
        self._suffix = suffix
        self._taken: set[str] = set()

    @property
    def count(self) -> int:
        """How many paths were given."""
        return len(self._taken)

    def place(self, item_id: str) -> Path:
        """A path like the item's identifier, made of harmless names only; its folder is made."""
        parts = [_harmless(part) for part in item_id.split("/") if part.strip(". ")] or ["item"]
        if Path(parts[-1]).suffix.lower() in SUFFIXES:
            parts[-1] = Path(parts[-1]).stem
        stem, number = "/".join(parts), 1
        name = stem
        while name.lower() in self._taken:  # lower: some file systems know no case
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.lower())
        path = self._out / f"{name}{self._suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _harmless(part: str) -> str:
    return re.sub(r"[^\w.,+=@ ()-]", "_", part)[:PART_LIMIT].strip(". ") or "item"


def write_pixels(path: Path, pixels: Pixels) -> Path:
    """Writes pixels without loss: PNG, or .npy for what PNG files in common use cannot hold; returns the path."""
    from PIL import Image  # noqa: PLC0415 -- only what writes images waits for Pillow

    grey = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if grey.dtype == np.uint16 and grey.ndim == 3:
        path = path.with_suffix(".npy")
        np.save(path, grey)
    else:
        Image.fromarray(grey).save(path)
    return path


def paint_heatmap(pixels: Pixels, heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image as grey with the map over it, red where it is highest, (h, w, 3) uint8.

    Args:
        pixels: the image, (h, w) or (h, w, 1|3|4), uint8 or uint16.
        heat: the map at the same size, (h, w) float32, 0 to 1; more counts as 1.
    """
    eight = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    grey = eight if eight.ndim == 2 else eight[..., :3].mean(axis=2)
    share = np.clip(heat, 0, 1)[..., None] * 0.7
    painted = grey[..., None] * (1 - share) + np.array([255.0, 0.0, 0.0]) * share
    eight_bits: NDArray[np.uint8] = painted.astype(np.uint8)
    return eight_bits


def hash_file(path: Path) -> str:
    """SHA-256 of an image's pixels as codec counts it; "" where Pillow may read them otherwise than codec does."""
    from PIL import Image  # noqa: PLC0415

    try:
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode not in ("L", "RGB", "RGBA", "I;16"):
                return ""
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError):  # the service says what is wrong with it
        return ""
    return hashlib.sha256(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).data).hexdigest()


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask's file: where it is white.

    Raises:
        OSError: it is no PNG.
    """
    from PIL import Image  # noqa: PLC0415 -- as above

    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image.convert("L")) >= 128


def read_pixels(path: Path) -> Pixels:
    """An image file's pixels, to draw on.

    Raises:
        OSError: it is no image.
    """
    from PIL import Image  # noqa: PLC0415 -- as above

    with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "TIFF")) as image:
        return np.asarray(image if image.mode == "I;16" else image.convert("RGB"))
