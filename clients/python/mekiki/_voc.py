"""Pascal VOC files: an XML and a JPEG per image, and `trainval.txt`, the input of common detector trainers.

The layout is that of the VOC2012 development kit (Everingham and Winn, section 4): `Annotations`, `JPEGImages`,
`ImageSets/Main`. Its boxes count pixels from 1 and include their last one.
"""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]  # left, top, right, bottom: half open, pixels


@dataclass(frozen=True, eq=False)
class VocImage:
    """An image to export."""

    name: str  # any text: made a safe file name
    pixels: NDArray[np.uint8]  # (h, w) or (h, w, 3), RGB
    objects: tuple[tuple[str, Box], ...]  # label and half-open box


def write_voc(out: Path, images: Iterable[VocImage]) -> int:
    """Write the images below `out` and return how many.

    Raises:
        OSError: a file could not be written.
    """
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for image in images:
        name = _unused(safe_name(image.name), names)
        names.append(name)
        (out / "JPEGImages" / f"{name}.jpg").write_bytes(encode_jpeg(image.pixels, 95))
        (out / "Annotations" / f"{name}.xml").write_bytes(annotate_image(name, image))
    (out / "ImageSets/Main/trainval.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return len(names)


def annotate_image(name: str, image: VocImage) -> bytes:
    """Return the XML of one image."""
    root = ET.Element("annotation")
    _add(root, folder="JPEGImages", filename=f"{name}.jpg")
    _add(ET.SubElement(root, "source"), database="mekiki")
    height, width = image.pixels.shape[:2]
    depth = image.pixels.shape[2] if image.pixels.ndim == 3 else 1
    _add(ET.SubElement(root, "size"), width=width, height=height, depth=depth)
    _add(root, segmented=0)
    for label, (left, top, right, bottom) in image.objects:
        item = ET.SubElement(root, "object")
        _add(item, name=label, pose="Unspecified", truncated=0, difficult=0)
        _add(ET.SubElement(item, "bndbox"), xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def safe_name(text: str) -> str:
    """Return text as a file name that cannot leave its folder."""
    return (
        re.sub(r"[^A-Za-z0-9_.-]+", "_", re.sub(r"\.(png|jpe?g|bmp|webp|tiff?)$", "", text, flags=re.IGNORECASE)).strip(
            "._"
        )[:120]
        or "image"
    )


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return an image, (h, w) or (h, w, 3) RGB, as a JPEG file.

    Raises:
        OSError: it could not be encoded.
    """
    from PIL import Image  # noqa: PLC0415 -- only what writes images waits for Pillow

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _add(parent: ET.Element, **values: object) -> None:
    for tag, value in values.items():
        ET.SubElement(parent, tag).text = str(value)


def _unused(name: str, taken: list[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate
