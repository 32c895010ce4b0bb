import io
import struct
import zlib

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image as pillow  # noqa: N813 - a module, not a class

from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.runtime.images import (
    ImageReader,
    decode_heatmap,
    decode_image,
    decode_mask,
    encode_heatmap,
    encode_mask,
    encode_runs,
    encode_tensor,
)

LIMIT = 1_000_000
RNG = np.random.default_rng(0)


def encoded(pixels, extension=".png"):
    return types_pb2.Image(encoded=cv2.imencode(extension, pixels)[1].tobytes())


def bomb_png(side):
    """A valid PNG header of a huge image with next to no data behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 4096)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "pixels",
    [
        RNG.integers(0, 256, (5, 7), np.uint8),
        RNG.integers(0, 256, (5, 7, 3), np.uint8),
        RNG.integers(0, 256, (5, 7, 4), np.uint8),
        RNG.integers(0, 65536, (5, 7), np.uint16),
        RNG.integers(0, 65536, (5, 7, 3), np.uint16),
        RNG.integers(0, 65536, (5, 7, 4), np.uint16),
    ],
    ids=["grey8", "rgb8", "rgba8", "grey16", "rgb16", "rgba16"],
)
def test_pixels_survive_png_and_tensor_exactly(pixels):
    assert np.array_equal(decode_image(encode_tensor(pixels), LIMIT), pixels)
    bgr = pixels if pixels.ndim == 2 else pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    decoded = decode_image(encoded(bgr), LIMIT)
    assert decoded.dtype == pixels.dtype
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_all_allowed_formats_are_read(extension):
    pixels = np.full((8, 9, 3), (10, 20, 200), np.uint8)
    decoded = decode_image(encoded(pixels[:, :, ::-1], extension), LIMIT)
    assert decoded.shape == (8, 9, 3)
    assert np.abs(decoded.astype(int) - pixels).max() < 12


@pytest.mark.parametrize(("mode", "expected"), [("1", 2), ("P", 3), ("LA", 3), ("CMYK", 3)])
def test_unusual_pixel_types_become_grey_or_colour(mode, expected):
    file = io.BytesIO()
    pillow.new(mode, (4, 3)).save(file, "TIFF" if mode == "CMYK" else "PNG")
    assert decode_image(types_pb2.Image(encoded=file.getvalue()), LIMIT).ndim == expected


@pytest.mark.parametrize("kind", ["GIF", "PPM", "PDF"])
def test_other_formats_are_refused(kind):
    file = io.BytesIO()
    pillow.new("RGB", (4, 3)).save(file, kind)
    with pytest.raises(InvalidArgument, match=r"image\.encoded: must be one of PNG, JPEG"):
        decode_image(types_pb2.Image(encoded=file.getvalue()), LIMIT)


def test_a_huge_image_is_refused_from_its_header():
    bomb = bomb_png(30_000)
    assert len(bomb) < 4096
    before = psutil.Process().memory_info().rss
    with pytest.raises(InvalidArgument, match=r"image\.encoded: must have at most 1000000 pixels, has 30000 x 30000"):
        decode_image(types_pb2.Image(encoded=bomb), LIMIT)
    assert psutil.Process().memory_info().rss - before < 64 << 20


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".tiff"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_images_are_refused(extension, share):
    data = encoded(RNG.integers(0, 256, (64, 64, 3), np.uint8), extension).encoded
    with pytest.raises(InvalidArgument, match=r"image\.encoded"):
        decode_image(types_pb2.Image(encoded=data[: int(len(data) * share)]), LIMIT)


@pytest.mark.parametrize("data", [b"", b"x", b"\x89PNG\r\n\x1a\n", RNG.bytes(10_000)])
def test_garbage_is_refused(data):
    with pytest.raises(InvalidArgument, match=r"image\.encoded"):
        decode_image(types_pb2.Image(encoded=data), LIMIT)


def test_an_image_of_several_pages_is_refused():
    file = io.BytesIO()
    pillow.new("L", (4, 3)).save(file, "TIFF", save_all=True, append_images=[pillow.new("L", (4, 3))])
    with pytest.raises(InvalidArgument, match="must hold one image, holds 2"):
        decode_image(types_pb2.Image(encoded=file.getvalue()), LIMIT)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"dtype": 0, "shape": [2, 2], "data": bytes(4)}, r"tensor\.dtype: must be .* is 0"),
        ({"dtype": 9, "shape": [2, 2], "data": bytes(4)}, r"tensor\.dtype: must be .* is 9"),
        ({"dtype": 1, "shape": [4], "data": bytes(4)}, r"tensor\.shape: must be .* is \[4\]"),
        ({"dtype": 1, "shape": [1, 2, 2], "data": bytes(4)}, r"tensor\.shape: must be .* is \[1, 2, 2\]"),
        ({"dtype": 1, "shape": [0, 2], "data": b""}, r"tensor\.shape: width and height must be at least 1, are 2 x 0"),
        ({"dtype": 1, "shape": [-2, -2], "data": bytes(4)}, r"tensor\.shape: width and height must be at least 1"),
        ({"dtype": 1, "shape": [2**40, 2**40], "data": b""}, r"tensor\.shape: must have at most 1000000 pixels"),
        ({"dtype": 1, "shape": [2, 2], "data": bytes(5)}, r"tensor\.data: must hold 4 bytes for \[2, 2\], holds 5"),
        ({"dtype": 2, "shape": [2, 2], "data": bytes(4)}, r"tensor\.data: must hold 8 bytes for \[2, 2\], holds 4"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(tensor, message):
    with pytest.raises(InvalidArgument, match=message):
        decode_image(types_pb2.Image(tensor=types_pb2.Tensor(**tensor)), LIMIT)


def test_an_image_without_a_source_is_refused():
    with pytest.raises(InvalidArgument, match="image: one of encoded, tensor or item must be set"):
        decode_image(types_pb2.Image(), LIMIT)


async def test_an_item_is_fetched_where_items_are_accepted_and_refused_elsewhere():
    pixels = np.zeros((2, 3), np.uint8)

    async def fetch(item):
        assert (item.dataset, item.item_id) == ("parts", "a")
        return pixels

    image = types_pb2.Image(item=types_pb2.ItemRef(dataset="parts", item_id="a"))
    assert await ImageReader(LIMIT, fetch).read(image) is pixels
    with pytest.raises(InvalidArgument, match=r"image\.item: not accepted here"):
        await ImageReader(LIMIT).read(image)


def test_masks_survive_and_bad_ones_are_refused():
    mask = RNG.random((6, 5)) > 0.5
    assert np.array_equal(decode_mask(encode_mask(mask), LIMIT), mask)
    with pytest.raises(InvalidArgument, match=r"mask\.png: must have one channel"):
        decode_mask(types_pb2.Mask(png=encoded(np.zeros((4, 4, 3), np.uint8)).encoded), LIMIT)
    with pytest.raises(InvalidArgument, match=r"mask\.png: must be one of PNG"):
        decode_mask(types_pb2.Mask(png=encoded(np.zeros((4, 4), np.uint8), ".bmp").encoded), LIMIT)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (1, 9), (9, 1)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_masks_survive_as_run_lengths_which_the_coco_api_reads_alike(shape, share):
    from pycocotools import mask as api

    mask = RNG.random(shape) < share
    told = encode_runs(mask)
    assert np.array_equal(decode_mask(told, LIMIT), mask)
    height, width = shape
    packed = api.frPyObjects({"size": [height, width], "counts": list(told.rle.counts)}, height, width)
    assert np.array_equal(api.decode(packed), mask)
    assert decode_mask(told, LIMIT).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({}, r"mask\.rle: width and height must be at least 1, are 0 x 0"),
        ({"width": -1, "height": -4, "counts": [4]}, "must be at least 1, are -1 x -4"),
        ({"width": 100_000, "height": 100_000, "counts": []}, r"must have at most \d+ pixels, has 100000 x 100000"),
        ({"width": 3, "height": 2}, r"mask\.rle\.counts: must add up to 6 for 3 x 2, add up to 0"),
        ({"width": 3, "height": 2, "counts": [1, 4]}, "add up to 5"),
        ({"width": 3, "height": 2, "counts": [2**32 - 1] * 9}, f"add up to {9 * (2**32 - 1)}"),
        ({"width": 3, "height": 2, "counts": [2**32 - 1, 7]}, f"add up to {2**32 + 6}"),
    ],
)
def test_run_lengths_that_make_no_mask_are_refused_by_name(rle, message):
    with pytest.raises(InvalidArgument, match=message):
        decode_mask(types_pb2.Mask(rle=types_pb2.CocoRle(**rle)), LIMIT)


def test_a_mask_is_told_in_one_way():
    both = types_pb2.Mask(png=b"x", rle=types_pb2.CocoRle(width=1, height=1, counts=[1]))
    for mask, words in ((types_pb2.Mask(), "none is"), (both, "both are")):
        with pytest.raises(InvalidArgument, match=f"mask: one of png or rle must be set, {words}"):
            decode_mask(mask, LIMIT)


def test_heat_maps_survive_and_bad_ones_are_refused():
    heat = RNG.random((6, 5), np.float32)
    assert np.array_equal(decode_heatmap(encode_heatmap(heat), LIMIT), heat)
    with pytest.raises(InvalidArgument, match=r"heatmap\.values: must hold 120 bytes for 5 x 6, holds 4"):
        decode_heatmap(types_pb2.Heatmap(width=5, height=6, values=bytes(4)), LIMIT)
    with pytest.raises(InvalidArgument, match="must be finite and >= 0"):
        decode_heatmap(encode_heatmap(heat * np.nan), LIMIT)
    with pytest.raises(InvalidArgument, match="width and height must be at least 1"):
        decode_heatmap(types_pb2.Heatmap(), LIMIT)
