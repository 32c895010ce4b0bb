"""How videos are made: exact ones, and lossy ones.

Chosen by measurement on screw, steel, CIFAR-10 and bolt photos (docs/measurements.md):

- exact: FFV1, 8 or 16 bits, grey, RGB or RGBA, every frame by itself. Against libx265 lossless and libx264 qp 0 it was
  smallest on every set (.36 to .83 of PNG), encodes at PNG's speed and needs one decoded frame a random read. GOPs save
  1 to 4 % more, which a compaction takes; motion compensation makes exact sensor noise larger, not smaller.
- lossy: HEVC (x265, preset medium) or AV1 (SVT-AV1, preset 6), closed GOPs of a fixed length.

The same frames give the same bytes, however many cores there are.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from services.codec.video import LAYOUTS, Frame, Gop, Video, VideoIndex
from services.runtime.errors import InvalidArgument, Unavailable

Codec = Literal["hevc", "av1"]
Chroma = Literal["420", "444"]

LARGEST_CRF: dict[Codec, int] = {"hevc": 51, "av1": 63}
LEAST_SIDE = 16
"""FFV1 cannot cut smaller pictures into slices; they are kept as PNG."""

LEAST_LOSSY_SIDE = 64
"""x265 refuses pictures under 16 pixels, and writes past the end of its memory where they are 33 to 48 wide."""

_RATE = 25
# Slices are decoded side by side: one thread takes three times as long as for a PNG, four a bit less.
_FFV1 = {"level": "3", "coder": "1", "slices": "4", "slicecrc": "1"}
# Two row threads on every machine: with another number x265 writes other (equally good) bytes.
_X265 = "log-level=none:info=0:open-gop=0:scenecut=0:frame-threads=1:pools=2:keyint={gop}:min-keyint={gop}"
_SVT_AV1 = "keyint={gop}:irefresh-type=2:scd=0:lp=2"
os.environ.setdefault("SVT_LOG", "1")  # errors alone: by default it writes twenty lines for every video


@dataclass(frozen=True)
class Rate:
    """How lossy videos are made.

    Attributes:
        crf: the encoder's rate factor, 0 (largest) to 51 of HEVC, 63 of AV1.
        gop: frames a GOP, 1 to 250.
        codec: which.
        chroma: "420", whose colour has half the resolution, or "444"; where AV1 or grey are encoded, "420" is meant.
    """

    crf: int
    gop: int
    codec: Codec = "hevc"
    chroma: Chroma = "420"


def can_encode(image: NDArray[Any]) -> bool:
    """Whether an image can be a frame: grey, RGB or RGBA of 8 or 16 bits, both sides at least 16 pixels."""
    return _layout(image) in LAYOUTS and min(image.shape[:2]) >= LEAST_SIDE


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
    return _encode(frames, first, "ffv1", LAYOUTS[_layout(_check(first, first))][1], options, gop)


def encode_lossy(frames: Iterable[Frame], rate: Rate) -> Video:
    """Encodes frames; HEVC with an odd side is always 4:4:4.

    Args:
        frames: equally shaped, 8 bits, grey or RGB, both sides at least 64 pixels; taken one by one, so they need not
            be in memory together.
        rate: how.

    Raises:
        InvalidArgument: as `encode_exact`, or crf or gop out of range.
        Unavailable: the encoder failed; the same frames may do another time.
    """
    if not 0 <= rate.crf <= LARGEST_CRF[rate.codec]:
        raise InvalidArgument("crf", f"must be 0 to {LARGEST_CRF[rate.codec]} of {rate.codec}, is {rate.crf}")
    if not 1 <= rate.gop <= 250:
        raise InvalidArgument("gop", f"must be 1 to 250, is {rate.gop}")
    first, frames = _peek(frames)
    if _layout(first) not in ((1, 8), (3, 8)):
        raise InvalidArgument("frames", f"must have 8 bits, grey or RGB; one is {first.dtype} of {first.shape}")
    if min(first.shape[:2]) < LEAST_LOSSY_SIDE:
        raise InvalidArgument("frames", f"must be at least {LEAST_LOSSY_SIDE} pixels, the first is {first.shape[:2]}")
    encoder, pixel_format, options = _set_up(rate, first)
    try:
        return _encode(frames, first, encoder, pixel_format, options, rate.gop)
    except av.error.FFmpegError as error:
        size = f"{first.shape[1]} x {first.shape[0]}"
        raise Unavailable(f"the video encoder failed on frames of {size} pixels: {error.strerror}") from error


def _peek(frames: Iterable[Frame]) -> tuple[Frame, Iterator[Frame]]:
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InvalidArgument("frames", "must be at least 1, are 0")
    return first, chain([first], iterator)


def _set_up(rate: Rate, first: Frame) -> tuple[str, str, dict[str, str]]:
    """Returns the encoder, the format that it takes, and its options."""
    if rate.codec == "av1":
        options = {"preset": "6", "crf": str(rate.crf), "svtav1-params": _SVT_AV1.format(gop=rate.gop)}
        return "libsvtav1", "yuv420p", options
    is_odd = first.shape[0] % 2 or first.shape[1] % 2
    coloured = "yuv444p" if is_odd or rate.chroma == "444" else "yuv420p"
    options = {"preset": "medium", "crf": str(rate.crf), "x265-params": _X265.format(gop=rate.gop)}
    return "libx265", "gray" if first.ndim == 2 else coloured, options


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
            stream.codec_context.color_range = _range(first)
        container.start_encoding()
        _give_up_real_time()
        for frame in frames:
            container.mux(stream.encode(_to_video_frame(frame, first, pixel_format)))
        container.mux(stream.encode(None))
    data = file.getvalue()
    return Video(data, _read_index(data, *_layout(first)))


def _give_up_real_time() -> None:
    """Makes all threads ordinary ones again.

    Where SVT-AV1 runs as root, its threads and the one that opened it become real-time ones of the highest priority,
    and so does every process started from there: on two cores nothing else gets a turn.
    """
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has ended
            if os.sched_getscheduler(int(task.name)) == os.SCHED_FIFO:
                os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


def _to_video_frame(frame: Frame, first: Frame, pixel_format: str) -> av.VideoFrame:
    in_memory, _ = LAYOUTS[_layout(_check(frame, first))]
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=in_memory)
    if pixel_format.startswith("yuv"):
        return picture.reformat(format=pixel_format, dst_colorspace=Colorspace.ITU709, dst_color_range=_range(first))
    return picture.reformat(format=pixel_format)


def _range(first: Frame) -> ColorRange:
    """Grey keeps its values; colours are made such as every program expects."""
    return ColorRange.JPEG if first.ndim == 2 else ColorRange.MPEG


def _check(frame: Frame, first: Frame) -> Frame:
    if frame.shape != first.shape or frame.dtype != first.dtype or not can_encode(frame):
        wanted = (
            f"8 or 16 bits, grey, RGB or RGBA, sides >= {LEAST_SIDE}, like the first: {first.dtype} of {first.shape}"
        )
        raise InvalidArgument("frames", f"must have {wanted}; one is {frame.dtype} of {frame.shape}")
    return frame


def _layout(image: NDArray[Any]) -> tuple[int, int]:
    """Returns channels and bits."""
    return 1 if image.ndim == 2 else image.shape[2], 8 * image.dtype.itemsize


def _read_index(data: bytes, channels: int, bit_depth: int) -> VideoIndex:
    """Reads our own file once more, without decoding, to learn where the packets lie."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        context = stream.codec_context
        return VideoIndex(
            codec=context.codec.canonical_name,
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
