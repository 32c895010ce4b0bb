"""Parts that are cut out, and scenes that are composed of them."""

import numpy as np
import pytest

from mekiki.augment import ComposeOptions, Tone, collect_parts, compose_scenes
from mekiki.augment.compose import clear_picture
from mekiki.augment.cutout import POOL, cut_part
from mekiki.formats import Picture
from tests.client.marked import disc
from tests.client.test_augment import GREEN, RED, find, overlap, scene

STILL = Tone(light=0, colour=0, blur_px=0, noise=0)


def singles():
    return [
        scene(("nut", GREEN, 40, 30, 90, 80), name="nut.png"),
        scene(("cap", RED, 60, 20, 100, 90), name="cap.png"),
    ]


def background(size=(200, 160)):
    random = np.random.default_rng(1)
    return Picture("table.png", random.integers(95, 125, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("masked", [False, True])
def test_a_part_is_cut_out_along_its_rim(masked):
    picture = scene(("nut", GREEN, 40, 30, 90, 80), masked=masked)
    part = cut_part(picture, picture.marks[0])
    inside = part.alpha >= 0.5
    truth = np.zeros_like(inside)
    top, left = (part.alpha.shape[0] - 50) // 2, (part.alpha.shape[1] - 50) // 2
    truth[top : top + 50, left : left + 50] = disc(picture.marks[0].annotation.box)
    assert (inside & truth).sum() / (inside | truth).sum() > 0.9
    assert part.around == pytest.approx(110, abs=2)


def test_what_cannot_be_told_from_its_background_is_left_alone():
    flat = scene(("nut", (110, 110, 110), 40, 30, 90, 80))
    assert cut_part(flat, flat.marks[0]) is None
    rim = scene(("nut", GREEN, 0, 30, 40, 80))
    covered = scene(("nut", GREEN, 40, 30, 90, 80), ("cap", RED, 60, 30, 110, 80))
    assert collect_parts([flat, rim, covered]) == ((), 4)


def test_no_more_parts_are_held_than_there_is_room_for():
    picture = singles()[0]
    parts, failed = collect_parts(picture for _ in range(POOL + 20))
    assert (len(parts), failed) == (POOL, 0)


def test_scenes_have_their_parts_where_boxes_and_masks_say():
    parts, failed = collect_parts(singles())
    assert (len(parts), failed) == (2, 0)
    options = ComposeOptions(1, 1, size=0.4, tone=STILL)
    labels = set()
    for made in compose_scenes(parts, [background()], {"table.png": 12}, options):
        (mark,) = made.marks
        labels.add(mark.annotation.label)
        colour = GREEN if mark.annotation.label == "nut" else RED
        assert overlap(mark.annotation.box, find(made.pixels, colour)) > 0.85
        assert made.labels == (mark.annotation.label,)
        assert (made.split, made.group) == ("train", "table.png")
        box = mark.annotation.box
        inside = made.pixels[box.y_min : box.y_max, box.x_min : box.x_max].astype(int)
        assert (np.abs(inside[mark.mask] - colour).max(axis=1) < 60).mean() > 0.85
    assert labels == {"nut", "cap"}


def test_parts_hide_each_other_no_more_than_they_may_and_masks_are_of_what_is_seen():
    parts, _ = collect_parts(singles())
    options = ComposeOptions(6, 9, hidden=0.2, zoom=1, size=0.5, tone=STILL)
    for made in compose_scenes(parts, [background()], {"table.png": 6}, options):
        seen = np.zeros(made.pixels.shape[:2], int)
        for mark in made.marks:
            box = mark.annotation.box
            seen[box.y_min : box.y_max, box.x_min : box.x_max] += mark.mask
            whole = np.pi / 4 * (50 * 50 if mark.annotation.label == "nut" else 40 * 70)
            assert mark.mask.sum() > 0.7 * whole
        assert seen.max() == 1
        assert np.array_equal(made.draw_mask(), seen > 0)


def test_large_parts_are_shrunk_by_one_factor():
    parts, _ = collect_parts(singles())
    options = ComposeOptions(1, 1, zoom=1, turn_deg=0, size=0.25, tone=STILL)
    sides = {}
    for made in compose_scenes(parts, [background()], {"table.png": 10}, options):
        box = made.marks[0].annotation.box
        sides[made.marks[0].annotation.label] = max(box.width, box.height)
    assert np.median(list(sides.values())) == pytest.approx(0.25 * 160, abs=3)
    assert sides["cap"] / sides["nut"] == pytest.approx(70 / 50, rel=0.1)


def test_what_is_marked_on_a_background_is_painted_over():
    cleared = clear_picture(scene(("nut", GREEN, 40, 30, 90, 80), masked=True))
    assert cleared.marks == ()
    assert np.abs(cleared.pixels.astype(int) - 110).max() < 25


def test_grey_pictures_make_scenes_too():
    grey = [Picture(each.name, each.pixels[..., 1], each.marks) for each in singles()]
    parts, _ = collect_parts(grey)
    assert parts
    (made,) = compose_scenes(parts, grey[:1], {"nut.png": 1})
    assert made.pixels.shape == (120, 160, 3)


def test_the_same_seed_makes_the_same_scenes():
    parts, _ = collect_parts(singles(), seed=3)
    one, other, third = (next(compose_scenes(parts, [background()], {"table.png": 1}, seed=seed)) for seed in (3, 3, 4))
    assert np.array_equal(one.pixels, other.pixels)
    assert not np.array_equal(one.pixels, third.pixels)


def test_without_parts_there_are_no_scenes():
    with pytest.raises(ValueError, match="no parts to paste"):
        next(compose_scenes((), [background()], {"table.png": 1}))
    with pytest.raises(ValueError, match="least_parts must be 1 to 2, is 3"):
        ComposeOptions(3, 2)
