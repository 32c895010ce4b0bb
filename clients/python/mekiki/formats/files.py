"""Image files of an export, each under a name of its own that cannot leave its folder."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.formats.picture import Picture

JPEG_QUALITY = 95
_WORDS = {"validation": "val"}


@dataclass(frozen=True, eq=False)
class Written:
    """A picture whose image file is written."""

    picture: Picture
    stem: str
    """The file's name without its ending."""

    file: str
    """The file's name."""


class ImageFiles:
    """Writes the image files of an export."""

    def __init__(self, *, lossless: bool) -> None:
        self._suffix = "png" if lossless else "jpg"
        self._taken: set[str] = set()

    @property
    def count(self) -> int:
        """How many were written."""
        return len(self._taken)

    def write(self, folder: Path, picture: Picture) -> Written:
        """Writes a picture's image into a folder, which is made.

        Raises:
            OSError: it could not be written.
        """
        stem = self._name(picture.name)
        folder.mkdir(parents=True, exist_ok=True)
        file = f"{stem}.{self._suffix}"
        encode = encode_png if self._suffix == "png" else encode_jpeg
        (folder / file).write_bytes(encode(picture.pixels))
        return Written(picture, stem, file)

    def _name(self, text: str) -> str:
        stem = safe_name(text)
        number, name = 1, stem
        while name.lower() in self._taken:  # lower: some file systems know no case
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.lower())
        return name


def safe_name(text: str) -> str:
    """Return text as a file name that cannot leave its folder."""
    stem = re.sub(r"\.(png|jpe?g|bmp|webp|tiff?)$", "", text, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._")[:120] or "image"


def name_split(split: str, default: str) -> str:
    """A split as other formats call it, as a file name; the default where there is none."""
    return _WORDS.get(split, safe_name(split)) if split else default


def encode_jpeg(pixels: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Return an image, (h, w) or (h, w, 3) RGB, as a JPEG file.

    Raises:
        OSError: it could not be encoded.
    """
    from PIL import Image  # noqa: PLC0415 -- only what writes images waits for Pillow

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image, (h, w) or (h, w, 3) RGB, or a mask, (h, w), as a PNG file."""
    from PIL import Image  # noqa: PLC0415 -- as above

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
