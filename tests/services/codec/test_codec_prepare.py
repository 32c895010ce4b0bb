import math
from pathlib import Path

import numpy as np
import pytest
from codec_parts import PAPER, draw_part

from services.codec.align import Alignment
from services.codec.background import open_remover
from services.codec.geometry import IDENTITY, apply, measure_overlap
from services.codec.order import describe, order_by_likeness
from services.codec.prepare import Placement, Placer, make_recipe, prepare
from services.codec.reference import open_reference, to_eight_bits
from services.runtime.errors import FailedPrecondition, InvalidArgument

REMOVER = open_remover("contrast", None, Path("/models"))


def follow_recipe(pictures, alignment="pose", remover=REMOVER, blank="union", *, crop=True):
    placer = Placer(open_reference(pictures[0], remover), alignment, remover, crop=crop)
    placements = [placer.place(picture) for picture in pictures]
    masks = [mask for mask in map(placer.draw_mask, placements) if mask is not None]
    union = np.any(masks, axis=0) if masks else None
    recipe = make_recipe(placer, union, blank, 3)
    return recipe, [prepare(picture, place, recipe) for picture, place in zip(pictures, placements, strict=True)]


@pytest.fixture
def pictures():
    poses = [(0.6, (100, 100)), (-2.0, (92, 107)), (2.9, (110, 95)), (0.1, (101.5, 99.5))]
    return [draw_part(angle, centre, noise_seed=n)[0] for n, (angle, centre) in enumerate(poses)]


def test_prepared_parts_lie_alike_in_a_frame_around_them(pictures):
    recipe, prepared = follow_recipe(pictures)
    assert recipe.width > 1.5 * recipe.height
    assert (recipe.width % 16, recipe.height % 16) == (0, 0)
    assert all(one.image.shape == (recipe.height, recipe.width) for one in prepared)
    differences = [np.abs(prepared[0].image.astype(int) - one.image).mean() for one in prepared[1:]]
    assert max(differences) < 6


def test_outside_the_union_everything_is_the_one_colour(pictures):
    recipe, prepared = follow_recipe(pictures)
    assert abs(recipe.fill[0] - PAPER) <= 1
    assert all((one.image[~recipe.mask] == recipe.fill[0]).all() for one in prepared)
    dark = [one.image < 140 for one in prepared]
    assert all((mask & ~recipe.mask).sum() == 0 for mask in dark)


def test_the_affine_leads_from_the_original_to_the_prepared_image(pictures):
    _, prepared = follow_recipe(pictures)
    head_of = [
        np.array([[centre[0] + 40 * math.cos(angle), centre[1] + 40 * math.sin(angle)]])
        for angle, centre in [(0.6, (100, 100)), (-2.0, (92, 107)), (2.9, (110, 95)), (0.1, (101.5, 99.5))]
    ]
    places = [apply(one.alignment.affine, head)[0] for one, head in zip(prepared, head_of, strict=True)]
    assert np.ptp(np.array(places), axis=0).max() < 1.5
    x, y = np.round(places[0]).astype(int)
    assert prepared[0].image[y, x] < 80


def test_a_test_image_is_prepared_as_the_training_images_were(pictures):
    placer = Placer(open_reference(pictures[0], REMOVER), "pose", REMOVER)
    recipe, prepared = follow_recipe(pictures)
    again = prepare(pictures[2], placer.place(pictures[2]), recipe)
    assert np.array_equal(again.image, prepared[2].image)
    assert np.array_equal(again.alignment.affine, prepared[2].alignment.affine)


def test_what_does_not_align_is_placed_whole_and_says_why(pictures):
    stranger = np.full((300, 100), PAPER, np.uint8)
    stranger[140:160, 40:60] = 50
    placer = Placer(open_reference(pictures[0], REMOVER), "pose", REMOVER)
    recipe, _ = follow_recipe(pictures)
    prepared = prepare(stranger, placer.place(stranger), recipe)
    assert not prepared.alignment.aligned
    assert prepared.alignment.reason
    linear = prepared.alignment.affine[:, :2]
    assert np.allclose(linear, linear[0, 0] * np.eye(2))
    x, y = np.round(apply(prepared.alignment.affine, np.array([[50.0, 150.0]]))[0]).astype(int)
    assert prepared.image[y, x] < 120


def test_nothing_aligned_and_nothing_removed_leaves_images_as_they_are(pictures):
    _, prepared = follow_recipe(pictures, alignment="none", remover=None, blank="none")
    assert all(np.array_equal(one.image, picture) for one, picture in zip(prepared, pictures, strict=True))


def test_images_of_several_sizes_are_placed_whole_where_there_is_room(pictures):
    placer = Placer(open_reference(pictures[0], None), "none", None, room=(240, 220))
    small = np.full((101, 60), 33, np.uint8)
    recipe = make_recipe(placer, None, "none", 0)
    assert (recipe.width, recipe.height) == (240, 220)
    found = prepare(small, placer.place(small), recipe)
    assert found.alignment.aligned
    assert (found.image == 33).sum() == small.size
    large = placer.place(np.zeros((50, 300), np.uint8)).alignment
    assert not large.aligned
    assert "300 x 50 pixels, the largest that was seen 240 x 220" in large.reason


def test_own_masks_blank_each_image_by_itself(pictures):
    _, prepared = follow_recipe(pictures, alignment="none", blank="own")
    truths = [draw_part(0.6, (100, 100))[1], draw_part(-2.0, (92, 107))[1]]
    for one, truth in zip(prepared, truths, strict=False):
        assert measure_overlap(one.image < 150, truth) > 0.85


def test_without_crop_the_frame_is_the_references(pictures):
    recipe, prepared = follow_recipe(pictures, blank="none", crop=False)
    assert (recipe.height, recipe.width) == pictures[0].shape
    assert np.abs(prepared[1].image.astype(int) - pictures[0])[60:140, 60:140].mean() < 8


@pytest.mark.parametrize("crop", [True, False])
def test_frames_are_shrunk_to_the_side_that_is_asked_for(pictures, crop):
    placer = Placer(open_reference(pictures[0], REMOVER), "pose", REMOVER, crop=crop)
    placements = [placer.place(picture) for picture in pictures]
    union = np.any([placer.draw_mask(place) for place in placements], axis=0)
    recipe = make_recipe(placer, union, "union", 3, side=96)
    assert max(recipe.width, recipe.height) == 96
    assert (recipe.width % 16, recipe.height % 16) == (0, 0)
    whole = make_recipe(placer, union, "union", 3)
    shrunk = (recipe.mask.sum() / 96**2) / (whole.mask.sum() / max(whole.mask.shape) ** 2)
    assert shrunk == pytest.approx(1, rel=0.1)
    prepared = [prepare(one, place, recipe).image for one, place in zip(pictures, placements, strict=True)]
    dark = [(one < 140)[recipe.mask].mean() for one in prepared]
    assert np.ptp(dark) < 0.05
    assert min(dark) > 0.3
    assert make_recipe(placer, union, "union", 3, side=5000).width == whole.width


def test_colour_and_grey_come_together_in_the_references_channels(pictures):
    colour = np.stack([pictures[1]] * 3, axis=-1)
    placer = Placer(open_reference(pictures[0], REMOVER), "pose", REMOVER)
    assert np.array_equal(placer.convert(colour), pictures[1])
    assert Placer(open_reference(colour, REMOVER), "pose", REMOVER).convert(pictures[0]).shape == (200, 200, 3)


def test_sixteen_bits_keep_the_upper_eight_that_are_used():
    twelve = np.array([[0, 16, 4095, 60_000]], np.uint16)
    assert to_eight_bits(twelve, 12, 1).tolist() == [[0, 1, 255, 255]]
    assert open_reference(np.full((40, 40), 4000, np.uint16), None).bits == 12


def test_a_reference_without_a_part_is_refused():
    with pytest.raises(FailedPrecondition, match="no part stands out"):
        open_reference(np.full((60, 60), 99, np.uint8), REMOVER)


def test_pose_without_a_mask_is_refused(pictures):
    with pytest.raises(InvalidArgument, match="akaze or none"):
        Placer(open_reference(pictures[0], None), "pose", None)


def test_images_that_look_alike_follow_each_other():
    shades = [np.full((40, 40), value, np.uint8) for value in (10, 200, 12, 205, 11, 190)]
    order = order_by_likeness(np.stack([describe(image, IDENTITY, 40, 40) for image in shades]))
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset({0, 2, 4}), frozenset({1, 3, 5})}


def test_thousands_of_images_are_ordered_in_blocks_and_all_of_them(monkeypatch):
    monkeypatch.setattr("services.codec.order._BLOCK", 8)
    points = np.random.default_rng(0).integers(0, 256, (30, 256), dtype=np.uint8)
    assert sorted(order_by_likeness(points)) == list(range(30))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_so_few_have_one_order(count):
    assert sorted(order_by_likeness(np.zeros((count, 256), np.uint8))) == list(range(count))


def test_kinds_that_are_apart_stay_together_and_the_same_rows_give_the_same_order():
    random = np.random.default_rng(4)
    kinds = random.integers(4, size=60)
    rows = (60 * kinds[:, None] + random.integers(0, 9, (60, 256))).astype(np.uint8)
    order = order_by_likeness(rows)
    assert np.count_nonzero(np.diff(kinds[order])) == 3
    assert order_by_likeness(rows) == order


def test_an_unaligned_placement_is_not_blanked(pictures):
    recipe, _ = follow_recipe(pictures)
    picture = np.full((recipe.height, recipe.width), 77, np.uint8)
    prepared = prepare(picture, Placement(Alignment(IDENTITY, False, 0.1, "no"), None), recipe)
    assert (prepared.image == 77).all()
