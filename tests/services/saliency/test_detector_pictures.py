"""Pictures to train on: where boxes go when pictures are resized, turned, cut, laid side by side and strewn about."""

import numpy as np
import pytest
from scenes import SIDE, draw_scene, draw_singles

from services.runtime.errors import InvalidArgument
from services.saliency.detection.compose import Composer, Picture, clip, pose
from services.saliency.detection.cutout import cut_out, resize, turn
from services.saliency.detection.letterbox import GREY, fit_into_square, map_back

COLOURS = {0: (220, 60, 60), 1: (60, 60, 220)}


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (64, 64), (1, 500), (700, 1000)])
def test_an_image_keeps_its_shape_in_the_square_and_the_rest_is_grey(height, width):
    letter = fit_into_square(np.full((height, width, 3), 200, np.uint8), 64)
    assert max(letter.width, letter.height) == 64
    assert letter.pixels.shape == (64, 64, 3)
    assert (letter.pixels[: letter.height, : letter.width] == 200).all()
    assert (letter.pixels[letter.height :] == GREY).all()
    assert (letter.pixels[:, letter.width :] == GREY).all()


def test_a_box_comes_back_to_where_it_was_in_the_image():
    letter = fit_into_square(np.zeros((300, 600), np.uint16), 96)
    box = np.array([[30, 60, 330, 240]], np.float32)
    assert map_back(box * np.float32(letter.scale), letter.scale, 600, 300).tolist() == box.tolist()


def test_boxes_beyond_the_image_are_cut_off_and_hold_a_pixel_at_least():
    boxes = np.array([[-9, -9, 99, 99], [4.2, 4.2, 4.3, 4.3], [50, 50, 60, 60]], np.float32)
    assert map_back(boxes, 1.0, 10, 8).tolist() == [[0, 0, 10, 8], [4, 4, 5, 5], [9, 7, 10, 8]]


def test_an_image_of_another_kind_is_refused_by_name():
    with pytest.raises(InvalidArgument, match="float32"):
        fit_into_square(np.zeros((8, 8), np.float32), 64)


def mark(pixels, boxes, classes):
    """Whether every box holds pixels of its class's colour in its middle, and none around it."""
    for (left, top, right, bottom), kind in zip(boxes.astype(int), classes, strict=True):
        middle = pixels[(top + bottom) // 2, (left + right) // 2].astype(int)
        assert np.abs(middle - COLOURS[int(kind)]).max() < 12, (kind, middle)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_go_along_when_a_picture_is_turned_or_mirrored(turns, mirrored):
    pixels, boxes, classes = draw_scene(np.random.default_rng(5), 30)
    pixels = pixels[:50]  # no square
    posed = pose(Picture(pixels, boxes, classes), turns, mirrored=mirrored)
    inside = clip(posed)
    assert len(inside.boxes) >= 2
    mark(inside.pixels, inside.boxes, inside.classes)
    back = pose(pose(posed, 0, mirrored=mirrored), -turns % 4, mirrored=False)
    assert np.array_equal(back.pixels, pixels)
    assert back.boxes == pytest.approx(boxes)


def test_boxes_with_little_in_view_are_dropped():
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    boxes = np.array([[-7, 0, 3, 10], [-4, 0, 6, 10], [0, 0, 2, 50]], np.float32)  # 30 %, 60 %, two pixels wide
    clipped = clip(Picture(pixels, boxes, np.array([0, 1, 2])))
    assert clipped.classes.tolist() == [1]
    assert clipped.boxes.tolist() == [[0, 0, 6, 10]]


@pytest.mark.parametrize("scene_share", [0.0, 1.0])
def test_composed_pictures_hold_what_their_boxes_say(scene_share):
    data = draw_singles(12)
    composer = Composer(data, np.arange(len(data)), scene_share, upright=False)
    made = [composer.compose(number % len(data), np.random.default_rng(number)) for number in range(40)]
    assert all(one.pixels.shape == (SIDE, SIDE, 3) and one.pixels.dtype == np.uint8 for one in made)
    counts = [len(one.classes) for one in made]
    assert max(counts) == 1 if scene_share == 0 else np.mean(counts) > 3
    for one in made:
        assert ((one.boxes[:, 2:] - one.boxes[:, :2]) >= 3).all()
        assert (one.boxes >= 0).all()
        assert (one.boxes <= SIDE).all()
        for (left, top, right, bottom), kind in zip(one.boxes.astype(int), one.classes, strict=True):
            seen = one.pixels[top:bottom, left:right].reshape(-1, 3).astype(int).mean(0)
            assert (seen[0] > seen[2]) == (kind == 0), "reddish discs, bluish squares, whatever the light"


def test_the_same_generator_gives_the_same_picture():
    data = draw_singles(6)
    composer = Composer(data, np.arange(len(data)), 0.7, upright=False)
    for number in range(12):
        first, second = (composer.compose(2, np.random.default_rng(number)) for _ in range(2))
        assert np.array_equal(first.pixels, second.pixels)
        assert np.array_equal(first.boxes, second.boxes)


def test_what_is_upright_stays_so():
    pixels = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    pixels[:, :, : SIDE // 2] = 255  # white on the left
    from services.saliency.detection.recipe import PictureSet

    box = (np.array([[8, 8, 56, 56]], np.float32),)
    data = PictureSet(pixels, np.array([[SIDE, SIDE]]), box, (np.array([0]),), ("half",), ("",))
    composer = Composer(data, np.array([0]), 1.0, upright=True)
    for number in range(20):
        one = composer.compose(0, np.random.default_rng(number))
        for left, top, right, bottom in one.boxes.astype(int):
            part = one.pixels[top:bottom, left:right].mean((0, 2))
            assert part[: len(part) // 3].mean() >= part[-(len(part) // 3) :].mean()


def test_a_thing_is_cut_out_along_its_outline_and_turns_within_a_box_that_fits():
    pixels = np.full((80, 80, 3), 100, np.uint8)
    pixels[35:45, 10:70] = (220, 30, 30)  # a bar of 60 x 10
    found = cut_out(pixels, np.array([7, 34, 73, 46], np.float32))
    assert found.outlined
    assert found.alpha[6, 30] == 1
    assert found.alpha[6, 0] == 0
    turned = turn(found, 90, 1.0)
    assert turned.alpha.shape[0] == pytest.approx(60, abs=3)
    assert turned.alpha.shape[1] == pytest.approx(10, abs=3)
    slanted = turn(found, 45, 0.5)
    assert slanted.alpha.shape == pytest.approx((25, 25), abs=3)
    assert np.median(turned.pixels[turned.alpha > 0.9], axis=0) == pytest.approx((220, 30, 30), abs=3)


def test_where_no_outline_is_found_the_whole_box_goes_along_with_soft_edges():
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3)).astype(np.uint8)
    found = cut_out(noise, np.array([20, 20, 60, 50], np.float32))
    assert not found.outlined
    assert found.alpha.shape == (30, 40)
    assert found.alpha[15, 20] == 1
    assert found.alpha[0, 20] < 1
    assert resize(found, 0.5, 1).alpha.shape == (20, 15)


def test_a_box_too_small_to_be_seen_is_not_cut_out():
    assert cut_out(np.zeros((80, 80, 3), np.uint8), np.array([10, 10, 12, 40], np.float32)) is None
    assert cut_out(np.zeros((80, 80, 3), np.uint8), np.array([90, 90, 120, 140], np.float32)) is None
