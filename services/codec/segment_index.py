"""What lies beside a segment's pixels: its index, and the JSON of it."""

import base64
from dataclasses import astuple, dataclass
from typing import Any

from services.codec.stills import Still
from services.codec.storage import Body
from services.codec.video import Gop, VideoIndex
from services.runtime.sealed import seal


@dataclass(frozen=True)
class Index:
    """A segment's index; with neither video nor stills it is a single PNG.

    Attributes:
        file: the object with the pixels.
        file_sha256: of all its bytes.
        stored_bytes: of the pixels, of the index, and of its copy.
        video: how frames are found in an MP4.
        stills: how images are found in a ZIP.
    """

    file: str
    file_sha256: str
    stored_bytes: int
    video: VideoIndex | None
    stills: tuple[Still, ...]


def index_from_json(value: Body, copies: int) -> Index:
    """Returns an index of which there are so many copies; raises KeyError or TypeError where something is missing."""
    video = value.get("video")
    return Index(
        file=str(value["file"]),
        file_sha256=str(value["file_sha256"]),
        stored_bytes=int(value["file_bytes"]) + copies * len(seal(value)),
        video=None if video is None else _video_from_json(video),
        stills=tuple(Still(*still) for still in value.get("stills", ())),
    )


def stills_to_json(stills: tuple[Still, ...]) -> list[tuple[Any, ...]]:
    """Returns what an index says of stills: for each its fields, without their names."""
    return [astuple(still) for still in stills]


def video_to_json(index: VideoIndex) -> Body:
    """Returns what an index says of a video."""
    return {
        "codec": index.codec,
        "extradata": base64.b64encode(index.extradata).decode(),
        "width": index.width,
        "height": index.height,
        "channels": index.channels,
        "bit_depth": index.bit_depth,
        "gops": [
            {"first": gop.first, "start": gop.start, "sizes": gop.sizes, "order": gop.order, "sha256": gop.sha256}
            for gop in index.gops
        ],
    }


def _video_from_json(value: dict[str, Any]) -> VideoIndex:
    gops = tuple(
        Gop(gop["first"], gop["start"], tuple(gop["sizes"]), tuple(gop["order"]), gop["sha256"])
        for gop in value["gops"]
    )
    extradata = base64.b64decode(value["extradata"])
    return VideoIndex(
        value["codec"], extradata, value["width"], value["height"], value["channels"], value["bit_depth"], gops
    )
