"""Pictures of a report, filed beside it and inlined."""

import base64
from dataclasses import dataclass
from pathlib import Path

from mekiki.formats.files import encode_jpeg
from mekiki.report.pictures import Pixels, shrink

SIDE = 420  # longer side of a picture in the report, pixels


@dataclass(frozen=True)
class Shot:
    """A picture in the report."""

    source: str  # data URI
    alt: str
    width: int  # pixels
    height: int


@dataclass(frozen=True)
class Card:
    """Pictures of one part with what is to be said of it."""

    shots: tuple[Shot, ...]
    label: str
    verdict: str
    remark: str
    is_wrong: bool
    name: str


class Album:
    """Files pictures beside the report and hands them out for inlining."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, pixels: Pixels, alt: str, side: int = SIDE) -> Shot:
        """Write `name`.jpg and return it as a data URI; `name` is ours, never a user's text."""
        small = shrink(pixels, side)
        jpeg = encode_jpeg(small, 86)
        (self.folder / f"{name}.jpg").write_bytes(jpeg)
        height, width = small.shape[:2]
        return Shot(f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}", alt, width, height)
