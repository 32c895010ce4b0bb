import numpy as np
import pytest

from services.runtime.errors import InvalidArgument
from services.saliency.pictures import convert_to_rgb, prepare


def test_grey_becomes_three_equal_channels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for image in (grey, grey[..., None]):
        rgb = convert_to_rgb(image)
        assert rgb.shape == (3, 4, 3)
        assert (rgb == grey[..., None]).all()


def test_sixteen_bits_keep_their_scale_from_image_to_image():
    dark = convert_to_rgb(np.full((2, 2), 257, np.uint16))
    bright = convert_to_rgb(np.full((2, 2), 65535, np.uint16))
    assert (dark == 1).all()
    assert (bright == 255).all()


def test_transparent_pixels_become_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 255, 51)
    assert convert_to_rgb(rgba)[0, :, 0].tolist() == [255, 0, 204]


def test_sixteen_bit_rgba_is_understood():
    rgba = np.full((2, 2, 4), 65535, np.uint16)
    assert (convert_to_rgb(rgba) == 255).all()


@pytest.mark.parametrize("shape", [(0, 4), (4, 4, 2), (4,), (2, 4, 4, 3)])
def test_odd_shapes_are_refused_by_name(shape):
    with pytest.raises(InvalidArgument) as refusal:
        convert_to_rgb(np.zeros(shape, np.uint8), "request.image")
    assert refusal.value.field == "request.image"


def test_floats_are_refused():
    with pytest.raises(InvalidArgument, match="float32"):
        convert_to_rgb(np.zeros((4, 4), np.float32))


def test_the_whole_image_is_squeezed_into_the_square():
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 30:] = 200  # the right quarter
    square = prepare(wide, 32)
    assert square.shape == (32, 32, 3)
    assert (square[:, 25:] == 200).all()
    assert (square[:, :23] == 0).all()
