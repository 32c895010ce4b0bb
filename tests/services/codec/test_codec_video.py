import io
import os
from pathlib import Path

import av
import numpy as np
import pytest

from services.codec import video
from services.codec.video_encode import LARGEST_CRF, Rate, encode_exact, encode_lossy
from services.runtime.errors import DataLoss, InvalidArgument


def noise(shape, count=5, seed=0, dtype=np.uint8):
    random = np.random.default_rng(seed)
    return [random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True) for _ in range(count)]


def shades(shape, count=7):
    ramp = np.linspace(20, 220, shape[0] * shape[1]).reshape(shape[:2])
    frames = [np.roll(ramp, 3 * number, axis=1).astype(np.uint8) for number in range(count)]
    return frames if len(shape) == 2 else [np.stack([frame, 255 - frame, frame // 2], axis=-1) for frame in frames]


@pytest.mark.parametrize("size", [(16, 16), (33, 65), (64, 48), (101, 203)])
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exact_video_returns_every_pixel_of_pure_noise(size, channels, dtype):
    frames = noise((*size, *channels), dtype=dtype)
    encoded = encode_exact(frames)
    decoded = list(video.decode_video(encoded))
    assert len(decoded) == len(frames)
    assert {frame.dtype for frame in decoded} == {np.dtype(dtype)}
    assert all(np.array_equal(one, other) for one, other in zip(frames, decoded, strict=True))


@pytest.mark.parametrize("shape", [(64, 80), (65, 67), (64, 80, 3), (65, 67, 3)])
@pytest.mark.parametrize("codec", LARGEST_CRF)
def test_lossy_video_keeps_size_order_and_colour(shape, codec):
    frames = shades(shape)
    decoded = list(video.decode_video(encode_lossy(frames, Rate(10, 3, codec))))
    for one, other in zip(frames, decoded, strict=True):
        assert other.shape == shape
        assert np.abs(one.astype(int) - other).mean() < 4


def test_grey_keeps_black_and_white_with_either_codec():
    frames = [np.repeat(np.array([[0, 255]], np.uint8), 32, axis=1).repeat(64, axis=0)] * 3
    for codec in LARGEST_CRF:
        for frame in video.decode_video(encode_lossy(frames, Rate(10, 3, codec))):
            assert np.abs(frame.astype(int) - frames[0])[:, [4, -4]].max() <= 3, codec


def test_fine_colours_survive_at_full_resolution_alone():
    stripes = np.zeros((64, 80, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 60, 60), (40, 127, 60)  # about as bright
    errors = {}
    for chroma in ("420", "444"):
        [shown] = video.decode_video(encode_lossy([stripes], Rate(5, 1, "hevc", chroma)))
        errors[chroma] = np.abs(shown.astype(int) - stripes).mean()
    assert errors["444"] < 5
    assert errors["420"] > 20


@pytest.mark.parametrize("codec", LARGEST_CRF)
def test_a_higher_rate_factor_makes_smaller_files(codec):
    frames = [frame // 2 + n // 2 for frame, n in zip(shades((96, 96)), noise((96, 96), 7), strict=True)]
    assert len(encode_lossy(frames, Rate(40, 8, codec)).data) < len(encode_lossy(frames, Rate(20, 8, codec)).data)


def test_the_same_frames_give_the_same_bytes():
    frames = shades((64, 80, 3))
    assert encode_exact(frames) == encode_exact(frames)
    for codec in LARGEST_CRF:
        assert encode_lossy(frames, Rate(28, 4, codec)) == encode_lossy(frames, Rate(28, 4, codec))


@pytest.mark.parametrize("codec", LARGEST_CRF)
def test_gops_are_bounded_and_without_gaps(codec):
    index = encode_lossy(shades((64, 80), 10), Rate(28, 4, codec)).index
    assert index.codec == codec
    assert [(gop.first, len(gop.sizes)) for gop in index.gops] == [(0, 4), (4, 4), (8, 2)]
    assert [gop.end for gop in index.gops[:-1]] == [gop.start for gop in index.gops[1:]]


@pytest.mark.parametrize("frame", [0, 3, 4, 6, 9])
@pytest.mark.parametrize("codec", LARGEST_CRF)
def test_a_random_frame_is_decoded_from_the_bytes_of_its_gop_alone(frame, codec):
    encoded = encode_lossy(shades((64, 80), 10), Rate(20, 4, codec))
    expected = list(video.decode_video(encoded))[frame]
    gop = encoded.index.find_gop(frame)
    assert np.array_equal(video.decode_frame(encoded.index, frame, encoded.data[gop.start : gop.end]), expected)


def test_a_random_frame_costs_no_frame_past_it(monkeypatch):
    encoded = encode_lossy(shades((64, 80), 10), Rate(20, 4))
    converted = []
    to_array = video._to_array
    monkeypatch.setattr(video, "_to_array", lambda *args: converted.append(1) or to_array(*args))
    gop = encoded.index.find_gop(6)
    video.decode_frame(encoded.index, 6, encoded.data[gop.start : gop.end])
    assert len(converted) == 3  # frames 4, 5 and 6


@pytest.mark.parametrize("codec", ["exact", *LARGEST_CRF])
def test_a_reader_that_knows_nothing_of_us_reads_the_file(codec):
    frames = shades((64, 80))
    encoded = encode_exact(frames) if codec == "exact" else encode_lossy(frames, Rate(10, 4, codec))
    with av.open(io.BytesIO(encoded.data)) as container:
        decoded = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(decoded) == len(frames)
    assert all(np.abs(a.astype(int) - b).mean() < 4 for a, b in zip(frames, decoded, strict=True))


@pytest.mark.parametrize("where", [0, 20, -1])
def test_one_flipped_bit_is_noticed(where):
    encoded = encode_lossy(shades((64, 80)), Rate(20, 4))
    gop = encoded.index.gops[0]
    damaged = bytearray(encoded.data[gop.start : gop.end])
    damaged[where] ^= 1
    with pytest.raises(DataLoss, match="checksum"):
        list(video.decode_gop(encoded.index, gop, bytes(damaged)))


def test_frames_of_different_shapes_are_refused():
    with pytest.raises(InvalidArgument, match=r"frames: must have .* one is uint8 of \(32, 33\)"):
        encode_exact([np.zeros((32, 32), np.uint8), np.zeros((32, 33), np.uint8)])


@pytest.mark.parametrize("frames", [noise((64, 64), 1, dtype=np.uint16), noise((64, 64, 4), 1)])
def test_lossy_video_has_eight_bits_and_no_opacity(frames):
    with pytest.raises(InvalidArgument, match="8 bits, grey or RGB"):
        encode_lossy(frames, Rate(28, 4))


@pytest.mark.parametrize(
    ("frames", "rate", "complaint"),
    [
        ([], Rate(28, 4), "at least 1"),
        (1, Rate(52, 4), "0 to 51 of hevc, is 52"),
        (1, Rate(64, 4, "av1"), "0 to 63 of av1, is 64"),
        (1, Rate(28, 0), "1 to 250, is 0"),
        (shades((64, 48)), Rate(28, 4), r"at least 64 pixels, the first is \(64, 48\)"),  # x265 would corrupt the heap
    ],
)
def test_bad_parameters_are_refused_with_limit_and_value(frames, rate, complaint):
    with pytest.raises(InvalidArgument, match=complaint):
        encode_lossy(shades((64, 64), 1) if frames == 1 else frames, rate)


@pytest.mark.parametrize("codec", LARGEST_CRF)
def test_no_thread_becomes_a_real_time_one(codec):  # SVT-AV1 makes its own and the caller so, where it runs as root
    def policies():
        return {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}

    def watch(frames):
        for frame in frames:
            yield frame
            seen.append(policies())

    seen = []
    encode_lossy(watch(shades((64, 80))), Rate(10, 3, codec))
    assert [*seen, policies()] == [{os.SCHED_OTHER}] * 8


def test_frames_are_taken_one_by_one():
    taken = []

    def frames():
        for number, frame in enumerate(shades((64, 64), 12)):
            taken.append(number)
            yield frame

    assert encode_lossy(frames(), Rate(28, 4)).index.frame_count == 12
    assert taken == list(range(12))
