"""Lists of equally shaped images as MP4 bytes, and back, one group of pictures (GOP) at a time.

A file is an ordinary MP4 that `ffmpeg` reads alone. The index beside it says where each GOP's bytes lie, so that a
random read fetches and decodes one GOP and no more. How the files are made: see `video_encode`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from services.runtime.errors import DataLoss, InvalidArgument

Frame = NDArray[Any]  # (h, w) grey, (h, w, 3) RGB or (h, w, 4) RGBA; uint8 or uint16

LAYOUTS = {
    (1, 8): ("gray", "gray"),
    (3, 8): ("rgb24", "bgr0"),
    (4, 8): ("rgba", "bgra"),
    (1, 16): ("gray16le", "gray16le"),
    (3, 16): ("rgb48le", "gbrp16le"),
    (4, 16): ("rgba64le", "gbrap16le"),
}
"""By channels and bits: the format in memory, and the one that FFV1 takes without loss."""

_DECODERS = {"ffv1": "ffv1", "hevc": "hevc", "av1": "libdav1d"}


@dataclass(frozen=True)
class Gop:
    """A run of frames that is decoded by itself.

    Attributes:
        first: number of its first frame.
        start: offset of its bytes in the file.
        sizes: of its packets, in decoding order, bytes.
        order: of its packets, in the same order: the place of each in the run as shown, from 0.
        sha256: of its bytes, hexadecimal.
    """

    first: int
    start: int
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    sha256: str

    @property
    def end(self) -> int:
        """Offset past its bytes."""
        return self.start + sum(self.sizes)


@dataclass(frozen=True)
class VideoIndex:
    """What is needed to decode any GOP from its bytes alone.

    Attributes:
        codec: "ffv1", "hevc" or "av1".
        extradata: the codec's header, which the MP4 keeps away from the frames.
        width, height: pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        bit_depth: 8 or 16.
        gops: in order, without gaps.
    """

    codec: str
    extradata: bytes
    width: int
    height: int
    channels: int
    bit_depth: int
    gops: tuple[Gop, ...]

    @property
    def frame_bytes(self) -> int:
        """Of a decoded frame."""
        return self.width * self.height * self.channels * self.bit_depth // 8

    def find_gop(self, frame: int) -> Gop:
        """Returns the GOP that holds a frame.

        Raises:
            InvalidArgument: there is no such frame.
        """
        for gop in self.gops:
            if gop.first <= frame < gop.first + len(gop.sizes):
                return gop
        raise InvalidArgument("frame", f"must be one of the {self.frame_count} frames, is {frame}")

    @property
    def frame_count(self) -> int:
        """Frames in the file."""
        return sum(len(gop.sizes) for gop in self.gops)


@dataclass(frozen=True)
class Video:
    """An MP4 file and its index."""

    data: bytes
    index: VideoIndex


def decode_gop(index: VideoIndex, gop: Gop, data: bytes) -> Iterator[Frame]:
    """Yields the frames of a GOP in order; stop early to decode no further.

    Raises:
        DataLoss: the bytes are not those that were written, or do not decode.
    """
    if hashlib.sha256(data).hexdigest() != gop.sha256:
        raise DataLoss(f"frames {gop.first} to {gop.first + len(gop.sizes) - 1} do not match their checksum")
    try:
        yield from _decode_packets(index, gop, data)
    except (av.error.FFmpegError, ValueError) as error:
        raise DataLoss(f"frames from {gop.first} on cannot be decoded") from error


def decode_frame(index: VideoIndex, frame: int, gop_bytes: bytes) -> Frame:
    """Returns one frame from the bytes of its GOP; decodes no frame of that GOP past it."""
    gop = index.find_gop(frame)
    for number, image in enumerate(decode_gop(index, gop, gop_bytes), start=gop.first):
        if number == frame:
            return image
    raise DataLoss(f"frame {frame} is missing")


def decode_video(video: Video) -> Iterator[Frame]:
    """Yields all frames in order, one GOP in memory at a time."""
    for gop in video.index.gops:
        yield from decode_gop(video.index, gop, video.data[gop.start : gop.end])


def _decode_packets(index: VideoIndex, gop: Gop, data: bytes) -> Iterator[Frame]:
    context: Any = av.CodecContext.create(_DECODERS[index.codec], "r")
    context.extradata = index.extradata
    context.width, context.height = index.width, index.height
    offset = 0
    for place, (size, shown) in enumerate(zip(gop.sizes, gop.order, strict=True)):
        packet = av.Packet(data[offset : offset + size])
        packet.pts, packet.dts = shown, place
        offset += size
        yield from (_to_array(picture, index) for picture in context.decode(packet))
    yield from (_to_array(picture, index) for picture in context.decode(None))


def _to_array(picture: Any, index: VideoIndex) -> Frame:  # noqa: ANN401 - PyAV has no types
    is_yuv = picture.format.name.startswith("yuv")
    if is_yuv and index.channels == 1:  # of AV1, which knows no picture without colour
        full = ColorRange.JPEG
        picture = picture.reformat(format="gray", src_color_range=full, dst_color_range=full)
    elif is_yuv:
        picture = picture.reformat(format="rgb24", src_colorspace=Colorspace.ITU709, src_color_range=ColorRange.MPEG)
    array: Frame = picture.to_ndarray(format=LAYOUTS[index.channels, index.bit_depth][0])
    return array
