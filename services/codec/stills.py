"""Images of any size as files of their own, put together in a ZIP that any program opens; and back, one at a time.

WebP where it can hold the pixels, else PNG, both lossless. On tile and steel WebP is within 1 % of JPEG XL, for which
there was no small library under a free licence (docs/measurements.md).
"""

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from services.codec.ahead import map_ahead
from services.codec.items import Pixels
from services.runtime.errors import DataLoss

_WEBP_SIDE = 16_383
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same images give the same bytes, whenever


@dataclass(frozen=True)
class Still:
    """An image in the file: bytes [start, end), whether it is "webp" or "png", and its channels.

    WebP does not tell grey from colour. Damage shows by the SHA-256 of the pixels, which its item has.
    """

    start: int
    end: int
    kind: str
    channels: int


def encode_stills(images: Iterable[Pixels], threads: int = 1) -> tuple[bytes, tuple[Still, ...]]:
    """Returns the ZIP, of nothing that is compressed once more, and where each image lies in it.

    A megapixel takes a core about a second; so many images are worked on at once.
    """
    file = io.BytesIO()
    stills = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, (kind, channels, data) in enumerate(map_ahead(_encode, images, threads)):
            entry = zipfile.ZipInfo(f"{number:05d}.{kind}", _EPOCH)
            archive.writestr(entry, data)
            start = entry.header_offset + len(entry.FileHeader())
            stills.append(Still(start, start + len(data), kind, channels))
    return file.getvalue(), tuple(stills)


def encode_still(pixels: Pixels) -> tuple[str, bytes]:
    """Returns the kind, "webp" or "png", and the bytes of one image."""
    if pixels.dtype != np.uint8 or max(pixels.shape[:2]) > _WEBP_SIDE:
        return "png", encode_png(pixels)
    data = io.BytesIO()
    # The last method tries everything, takes ten times as long, and saves a hundredth.
    Image.fromarray(pixels).save(data, "WEBP", lossless=True, quality=100, method=5, exact=True)
    return "webp", data.getvalue()


def _encode(pixels: Pixels) -> tuple[str, int, bytes]:
    kind, data = encode_still(pixels)
    return kind, 1 if pixels.ndim == 2 else pixels.shape[2], data


def decode_still(still: Still, data: bytes) -> Pixels:
    """Returns an image of its bytes; raises DataLoss where they cannot be decoded."""
    if still.kind == "png":
        return decode_png(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGBA" if still.channels == 4 else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataLoss("an image cannot be decoded") from error
    return np.ascontiguousarray(pixels[..., 0]) if still.channels == 1 else pixels


def encode_png(pixels: Pixels) -> bytes:
    """Returns an image, 8 or 16 bits, grey, RGB or RGBA, as PNG."""
    stored = pixels
    if pixels.ndim == 3:
        stored = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", stored)[1].tobytes()


def decode_png(data: bytes) -> Pixels:
    """Returns an image of its PNG; raises DataLoss where it cannot be decoded."""
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if stored is None:
        raise DataLoss("the PNG cannot be decoded")
    if stored.ndim == 2:
        return stored
    return np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB))
