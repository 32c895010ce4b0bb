"""Lists of equally shaped images as MP4 bytes, and back, one group of pictures (GOP) at a time.

Two codecs, chosen by measurement on screw, steel, CIFAR-10 and bolt photos (docs/measurements.md):

- exact: FFV1, 8 or 16 bits, grey, RGB or RGBA, every frame by itself. Against libx265 lossless and libx264 qp 0 it was
  smallest on every set (.36 to .83 of PNG), encodes at PNG's speed and needs one decoded frame a random read. GOPs save
  1 to 4 % more, which a compaction takes; motion compensation makes exact sensor noise larger, not smaller.
- lossy: HEVC (x265, preset medium), closed GOPs of a fixed length.

A file is an ordinary MP4 that `ffmpeg` reads alone. The index beside it says where each GOP's bytes lie, so that a
random read fetches and decodes one GOP and no more. The same frames give the same bytes, however many cores there are.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from services.runtime.errors import DataLoss, InvalidArgument, Unavailable

Frame = NDArray[Any]  # (h, w) grey, (h, w, 3) RGB or (h, w, 4) RGBA; uint8 or uint16

LEAST_SIDE = 16
"""x265 refuses smaller pictures, and FFV1 cannot cut them into slices; they are kept as PNG."""

_RATE = 25
_FFV1 = {"level": "3", "coder": "1", "slices": "4", "slicecrc": "1"}
# Two row threads on every machine: with another number x265 writes other (equally good) bytes.
_X265 = "log-level=none:info=0:open-gop=0:scenecut=0:frame-threads=1:pools=2:keyint={gop}:min-keyint={gop}"


_LAYOUTS = {
    (1, 8): ("gray", "gray"),
    (3, 8): ("rgb24", "bgr0"),
    (4, 8): ("rgba", "bgra"),
    (1, 16): ("gray16le", "gray16le"),
    (3, 16): ("rgb48le", "gbrp16le"),
    (4, 16): ("rgba64le", "gbrap16le"),
}
"""By channels and bits: the format in memory, and the one that FFV1 takes without loss."""


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
        codec: "ffv1" or "hevc".
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


def can_encode(image: NDArray[Any]) -> bool:
    """Whether an image can be a frame: grey, RGB or RGBA of 8 or 16 bits, both sides at least 16 pixels."""
    return _layout(image) in _LAYOUTS and min(image.shape[:2]) >= LEAST_SIDE


def encode_exact(frames: Iterable[Frame], gop: int = 1, *, is_large_context: bool = False) -> Video:
    """Encodes frames so that decoding returns every pixel as it was.

    Args:
        frames: equally shaped; taken one by one, so they need not be in memory together.
        gop: frames that learn from each other how pixels follow pixels; none refers to another's pixels.
        is_large_context: each pixel is foretold by more of those around it; pays with many of them.

    Raises:
        InvalidArgument: no frame, frames of different shapes, or frames that `can_encode` refuses.
    """
    first, frames = _peek(frames)
    options = {**_FFV1, "context": "1" if is_large_context else "0"}
    return _encode(frames, first, "ffv1", _LAYOUTS[_layout(_check(first, first))][1], options, gop)


def encode_lossy(frames: Iterable[Frame], crf: int, gop: int) -> Video:
    """Encodes frames to HEVC; colour is 4:2:0, or 4:4:4 where a side is odd.

    Args:
        frames: equally shaped, 8 bits, grey or RGB; taken one by one, so they need not be in memory together.
        crf: x265's rate factor, 0 (largest) to 51 (smallest).
        gop: frames a GOP.

    Raises:
        InvalidArgument: as `encode_exact`, or crf or gop out of range.
        Unavailable: the encoder failed; the same frames may do another time.
    """
    if not 0 <= crf <= 51:
        raise InvalidArgument("crf", f"must be 0 to 51, is {crf}")
    if not 1 <= gop <= 250:
        raise InvalidArgument("gop", f"must be 1 to 250, is {gop}")
    first, frames = _peek(frames)
    if _layout(first) not in ((1, 8), (3, 8)):
        raise InvalidArgument("frames", f"must have 8 bits, grey or RGB; one is {first.dtype} of {first.shape}")
    odd = first.shape[0] % 2 or first.shape[1] % 2
    pixel_format = "gray" if first.ndim == 2 else "yuv444p" if odd else "yuv420p"
    options = {"preset": "medium", "crf": str(crf), "x265-params": _X265.format(gop=gop)}
    try:
        return _encode(frames, first, "libx265", pixel_format, options, gop)
    except av.error.FFmpegError as error:
        size = f"{first.shape[1]} x {first.shape[0]}"
        raise Unavailable(f"the video encoder failed on frames of {size} pixels: {error.strerror}") from error


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


def _peek(frames: Iterable[Frame]) -> tuple[Frame, Iterator[Frame]]:
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InvalidArgument("frames", "must be at least 1, are 0")
    return first, chain([first], iterator)


def _encode(
    frames: Iterable[Frame], first: Frame, codec: str, pixel_format: str, options: dict[str, str], gop: int
) -> Video:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=_RATE, options=options)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixel_format
        stream.gop_size = gop
        if pixel_format.startswith("yuv"):
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
        for frame in frames:
            container.mux(stream.encode(_to_video_frame(frame, first, pixel_format)))
        container.mux(stream.encode(None))
    data = file.getvalue()
    return Video(data, _read_index(data, *_layout(first)))


def _to_video_frame(frame: Frame, first: Frame, pixel_format: str) -> av.VideoFrame:
    in_memory, _ = _LAYOUTS[_layout(_check(frame, first))]
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=in_memory)
    if pixel_format.startswith("yuv"):
        return picture.reformat(format=pixel_format, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
    return picture.reformat(format=pixel_format)


def _layout(image: NDArray[Any]) -> tuple[int, int]:
    """Returns channels and bits."""
    return 1 if image.ndim == 2 else image.shape[2], 8 * image.dtype.itemsize


def _check(frame: Frame, first: Frame) -> Frame:
    if frame.shape != first.shape or frame.dtype != first.dtype or not can_encode(frame):
        wanted = (
            f"8 or 16 bits, grey, RGB or RGBA, sides >= {LEAST_SIDE}, like the first: {first.dtype} of {first.shape}"
        )
        raise InvalidArgument("frames", f"must have {wanted}; one is {frame.dtype} of {frame.shape}")
    return frame


def _read_index(data: bytes, channels: int, bit_depth: int) -> VideoIndex:
    """Reads our own file once more, without decoding, to learn where the packets lie."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        context = stream.codec_context
        return VideoIndex(
            codec=context.name,
            extradata=bytes(context.extradata or b""),
            width=stream.width,
            height=stream.height,
            channels=channels,
            bit_depth=bit_depth,
            gops=_cut(packets, data),
        )


def _cut(packets: Sequence[Any], data: bytes) -> tuple[Gop, ...]:
    starts = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    gops = []
    for first, end in zip(starts, [*starts[1:], len(packets)], strict=True):
        run = packets[first:end]
        shown = sorted(packet.pts for packet in run)
        sizes = tuple(packet.size for packet in run)
        start = run[0].pos
        digest = hashlib.sha256(data[start : start + sum(sizes)]).hexdigest()
        gops.append(Gop(first, start, sizes, tuple(shown.index(packet.pts) for packet in run), digest))
    return tuple(gops)


def _decode_packets(index: VideoIndex, gop: Gop, data: bytes) -> Iterator[Frame]:
    context: Any = av.CodecContext.create(index.codec, "r")
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
    if picture.format.name.startswith("yuv"):
        picture = picture.reformat(format="rgb24", src_colorspace=Colorspace.ITU709, src_color_range=ColorRange.MPEG)
    array: Frame = picture.to_ndarray(format=_LAYOUTS[index.channels, index.bit_depth][0])
    return array
