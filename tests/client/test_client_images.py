import io

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import mekiki
from mekiki._values.image import from_image, from_mask, to_heatmap, to_image, to_mask
from mekiki.types.v1 import types_pb2
from services.runtime.images import decode_heatmap, decode_image, decode_mask, encode_runs

RANDOM = np.random.default_rng(0)
KINDS = {
    "grey": RANDOM.integers(0, 256, (5, 7), np.uint8),
    "rgb": RANDOM.integers(0, 256, (5, 7, 3), np.uint8),
    "rgba": RANDOM.integers(0, 256, (5, 7, 4), np.uint8),
    "grey16": RANDOM.integers(0, 65536, (5, 7), np.uint16),
}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_however_it_is_given(kind, tmp_path):
    pixels = KINDS[kind]
    path = tmp_path / "image.png"
    path.write_bytes(png(pixels))
    with Image.open(path) as opened:
        given = [pixels, np.asfortranarray(pixels), Image.fromarray(pixels), opened, png(pixels), path, str(path)]
        for image in given:
            assert_array_equal(decode_image(to_image(image), 10_000), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_pillow_image_is_sent_as_the_service_would_read_its_file(mode):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    image = Image.fromarray(KINDS["grey16"]) if mode == "I;16" else grey.convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF")
    sent = decode_image(to_image(image), 10_000)
    assert_array_equal(sent, decode_image(to_image(file.getvalue()), 10_000))


def test_big_endian_pixels_arrive_as_they_are():
    pixels = KINDS["grey16"].astype(">u2")
    assert_array_equal(decode_image(to_image(pixels), 10_000), pixels)


def test_an_item_is_sent_as_its_name():
    image = to_image(mekiki.ItemRef("screws", "1", mekiki.ItemForm.PREPARED, "prepared-2"))
    assert (image.item.dataset, image.item.item_id, image.item.encoding_id) == ("screws", "1", "prepared-2")
    assert image.item.form == 2
    assert to_image(image) is image


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_come_back_as_they_went(kind):
    back = from_image(to_image(KINDS[kind]))
    assert_array_equal(back, KINDS[kind])
    assert back.dtype == KINDS[kind].dtype
    assert not back.flags.writeable


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (np.zeros((4, 4), np.float32), TypeError, "float32"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"\(4, 4, 2\)"),
        (np.zeros((0, 4), np.uint8), ValueError, "not empty"),
        (np.zeros(4, np.uint8), ValueError, r"\(4,\)"),
        (Image.new("F", (4, 4)), TypeError, "mode F"),
        ([[1, 2], [3, 4]], TypeError, "not list"),
        (None, TypeError, "NoneType"),
        ("/nowhere/image.png", FileNotFoundError, "nowhere"),
    ],
)
def test_what_is_no_image_is_refused_before_anything_is_sent(wrong, error, words):
    with pytest.raises(error, match=words):
        to_image(wrong)


def test_run_lengths_are_read_and_those_that_make_no_mask_are_the_services_fault():
    mask = RANDOM.random((9, 13)) > 0.5
    assert_array_equal(from_mask(encode_runs(mask)), mask)
    with pytest.raises(mekiki.errors.Internal, match="do not add up"):
        from_mask(types_pb2.Mask(rle=types_pb2.CocoRle(width=3, height=2, counts=[7])))
    with pytest.raises(mekiki.errors.Internal, match="at most"):
        from_mask(types_pb2.Mask(rle=types_pb2.CocoRle(width=2**31 - 1, height=2**31 - 1)))


def test_masks_and_heat_maps_go_both_ways():
    mask = RANDOM.random((9, 13)) > 0.5
    assert_array_equal(decode_mask(to_mask(mask), 10_000), mask)
    assert_array_equal(from_mask(to_mask(mask)), mask)
    values = RANDOM.random((9, 13))
    assert_array_equal(decode_heatmap(to_heatmap(values), 10_000), values.astype(np.float32))
    assert_array_equal(mekiki.Heatmap.from_proto(to_heatmap(values)).values, values.astype(np.float32))
    with pytest.raises(ValueError, match=r"\(9,\)"):
        to_mask(mask[:, 0])
    with pytest.raises(ValueError, match=r"\(9,\)"):
        to_heatmap(values[:, 0])


def test_a_resized_heat_map_is_linear_between_centres():
    heatmap = mekiki.Heatmap(np.array([[0.0, 1.0]], np.float32))
    assert_allclose(heatmap.resized(4, 2), [[0, 0.25, 0.75, 1]] * 2)
    assert_allclose(heatmap.resized(2, 1), heatmap.values)
    plane = np.add.outer(np.arange(8.0), np.arange(6.0)).astype(np.float32)
    import cv2

    assert_allclose(mekiki.Heatmap(plane).resized(60, 80), cv2.resize(plane, (60, 80)), atol=1e-4)


def test_an_affine_map_and_its_inverse_cancel():
    affine = mekiki.Affine(np.array([[0.8, -0.6, 5.0], [0.6, 0.8, -3.0]]))
    points = np.array([[0.0, 0.0], [10.0, 20.0]])
    assert_allclose(affine.inverse().apply(affine.apply(points)), points, atol=1e-12)
    assert_allclose(affine.apply(points)[0], [5, -3])


def test_a_map_of_another_kind_is_refused(client):
    with pytest.raises(TypeError, match="int64"):
        client.boxfit.fit_box(np.ones((3, 3), np.int64))
