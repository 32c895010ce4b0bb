import numpy as np
import pytest

from services.anomaly.frames import (
    Box,
    Framing,
    Placement,
    bound_hot_spot,
    fit_area,
    fit_longer_side,
    heatmap_shape,
    lay_out_heatmap,
    resize,
    shrink_mask,
    to_pixels,
)
from services.runtime.errors import InvalidArgument

IDENTITY = np.eye(2, 3)


@pytest.mark.parametrize(
    ("frame", "side", "shape"),
    [
        ((1024, 1024), 384, (384, 384)),
        ((321, 933), 640, (224, 640)),
        ((30, 3000), 640, (32, 640)),
        ((10, 10), 64, (64, 64)),
    ],
)
def test_the_longer_side_is_met_and_the_aspect_ratio_kept(frame, side, shape):
    assert fit_longer_side(frame, side) == shape


def test_an_area_is_that_of_the_square():
    assert fit_area((500, 500), 224) == (224, 224)
    height, width = fit_area((321, 933), 224)
    assert 0.85 < height * width / 224**2 < 1.15


def test_grey_colour_and_sixteen_bits_become_the_same_pixels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = grey.astype(np.uint16) * 257
    colour = np.dstack([grey] * 3)
    alpha = np.dstack([colour, np.full_like(grey, 7)])
    for image in (deep, colour, alpha):
        assert (to_pixels(image) == to_pixels(grey)).all()


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4), np.float32)]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InvalidArgument) as refusal:
        to_pixels(image)
    assert refusal.value.field == "image"


def test_shrinking_averages_so_that_a_thin_line_stays_visible():
    image = np.zeros((100, 100), np.uint8)
    image[:, 50] = 200
    assert resize(image, (10, 10)).max() == 20


def test_a_framing_cuts_the_box_around_its_mask_and_refuses_other_frames():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:22] = True
    framing = Framing(mask)
    image = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    assert (framing.cut(image) == image[5:15, 10:22]).all()
    assert framing.cut_mask().all()
    with pytest.raises(InvalidArgument, match=r"\(20, 30\)"):
        framing.cut(image[:, :29])


def test_a_cell_belongs_to_the_mask_by_half_its_area():
    mask = np.zeros((16, 16), bool)
    mask[:, :12] = True
    assert (shrink_mask(mask, (2, 2)) == [[True, True], [True, True]]).all()
    mask[:, 11] = False
    assert (shrink_mask(mask, (2, 2)) == [[True, False], [True, False]]).all()


def test_a_heat_map_over_the_whole_image_keeps_its_place_and_level():
    coarse = np.zeros((4, 8), np.float32)
    coarse[1, 6] = 5
    heat = lay_out_heatmap(coarse, Framing(), Placement(IDENTITY, (100, 200)), 80)
    assert heat.shape == heatmap_shape((100, 200), 80) == (40, 80)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (10 <= row < 20, 60 <= column < 70) == (True, True)
    assert 4 < heat.max() <= 5
    assert (lay_out_heatmap(np.ones((4, 8), np.float32), Framing(), Placement(IDENTITY, (100, 200)), 80) == 1).all()


def test_a_heat_map_goes_back_through_the_alignment_to_the_image_as_sent():
    # The frame shows the image turned by a quarter: frame (x, y) = image (y, 99 - x).
    affine = np.array([[0, 1, 0], [-1, 0, 99.0]])
    mask = np.zeros((100, 100), bool)
    mask[20:80, 40:100] = True
    coarse = np.zeros((60, 60), np.float32)
    coarse[10, 50] = 1  # frame (90, 30), so image (69, 90)
    heat = lay_out_heatmap(coarse, Framing(mask), Placement(affine, (100, 100)), 100)
    assert np.unravel_index(heat.argmax(), heat.shape) == (90, 69)
    assert heat.max() == pytest.approx(1, abs=1e-3)
    assert heat[:35].max() == 0  # not in the frame's box


def test_a_hot_spot_is_the_region_around_the_peak_alone():
    heat = np.zeros((50, 60), np.float32)
    heat[10:14, 20:30] = 1
    heat[12, 25] = 1.5
    heat[40:44, 5:9] = 1.4
    assert bound_hot_spot(heat) == Box(20, 10, 30, 14)
    assert bound_hot_spot(np.zeros((5, 5), np.float32)) is None
