"""Boxes and masks go where the pixels go."""

import numpy as np
import pytest

from mekiki import Annotation, AnnotationState, Box
from mekiki.augment import AugmentOptions, Motion, Tone, augment_picture, augment_pictures, share_out
from mekiki.augment.warp import warp_marks, warp_picture
from mekiki.formats import Mark, Picture
from tests.client.marked import disc

STILL = Tone(light=0, colour=0, blur_px=0, noise=0)
GREEN, RED = (20, 200, 20), (220, 30, 30)


def scene(*objects, size=(160, 120), masked=False, name="a.png", **fields):
    """Ellipses, or with "bar" slanting bars, of one colour each on grey, and their marks."""
    pixels = np.full((size[1], size[0], 3), 110, np.uint8)
    marks = []
    for label, colour, *ends in objects:
        box = Box(*ends)
        inside = slanted(box) if label == "bar" else disc(box)
        pixels[box.y_min : box.y_max, box.x_min : box.x_max][inside] = colour
        note = Annotation(box, label, source="a person", state=AnnotationState.ACCEPTED)
        marks.append(Mark(note, inside if masked else None))
    return Picture(name, pixels, tuple(marks), **fields)


def slanted(box):
    y, x = np.mgrid[: box.height, : box.width]
    return np.abs(x / box.width - y / box.height) < 0.2


def find(pixels, colour):
    """The box of what has a colour."""
    there = np.abs(pixels.astype(int) - colour).max(axis=2) < 60
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def overlap(one, other):
    across = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    down = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    both = max(0, across) * max(0, down)
    return both / (one.width * one.height + other.width * other.height - both)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("turn_deg", [10, 180])
def test_every_box_stays_on_its_object(masked, turn_deg):
    picture = scene(("nut", GREEN, 50, 40, 90, 62), ("cap", RED, 100, 60, 120, 90), masked=masked)
    options = AugmentOptions(Motion(turn_deg=turn_deg), STILL)
    for number in range(1, 25):
        made = augment_picture(picture, number, options)
        for mark in made.marks:
            seen = find(made.pixels, GREEN if mark.annotation.label == "nut" else RED)
            assert overlap(mark.annotation.box, seen) > (0.85 if masked else 0.8), (number, mark.annotation.box, seen)
            assert (mark.mask is not None) == masked
            if masked:
                box = mark.annotation.box
                inside = made.pixels[box.y_min : box.y_max, box.x_min : box.x_max]
                colour = GREEN if mark.annotation.label == "nut" else RED
                assert (np.abs(inside[mark.mask].astype(int) - colour).max(axis=1) < 60).mean() > 0.85


def test_a_long_part_that_lies_askew_gets_a_tight_box_when_it_is_turned_far():
    picture = scene(("bar", RED, 45, 25, 115, 95))
    options = AugmentOptions(Motion(turn_deg=180, zoom=1, shift=0, flip=False), STILL)
    rates = [
        overlap(made.marks[0].annotation.box, find(made.pixels, RED))
        for made in (augment_picture(picture, number, options) for number in range(1, 15))
    ]
    assert min(rates) > 0.8


def test_a_quarter_turn_is_exact():
    picture = scene(("nut", GREEN, 10, 20, 50, 30), size=(100, 100))
    quarter = np.array([[0.0, -1, 100], [1, 0, 0]])  # (x, y) to (100 - y, x)
    (mark,) = warp_marks(picture, quarter, 0.4, [None])
    assert mark.annotation.box == Box(70, 10, 80, 50)
    moved = warp_picture(picture, quarter, 0.4, [None])
    assert np.array_equal(moved.pixels, np.rot90(picture.pixels, -1))


def test_who_stays_the_same_keeps_label_source_and_state_but_not_the_identifier():
    picture = scene(("nut", GREEN, 50, 40, 90, 62))
    note = Annotation(Box(50, 40, 90, 62), "nut", 0.7, "boxfit", AnnotationState.PROPOSED, True, "id")
    (mark,) = augment_picture(Picture("a", picture.pixels, (Mark(note),)), 1).marks
    made = mark.annotation
    assert (made.label, made.score, made.source, made.state) == ("nut", 0.7, "boxfit", AnnotationState.PROPOSED)
    assert made.needs_review
    assert made.annotation_id == ""


def test_boxes_that_fall_mostly_outside_are_dropped_and_others_cut():
    picture = scene(("nut", GREEN, 0, 40, 20, 60), ("cap", RED, 100, 40, 140, 60))
    left = np.array([[1.0, 0, -15], [0, 1, 0]])
    assert [mark.annotation.label for mark in warp_marks(picture, left, 0.4, [None, None])] == ["cap"]
    right = np.array([[1.0, 0, 30], [0, 1, 0]])
    (nut, cap) = warp_marks(picture, right, 0.4, [None, None])
    assert cap.annotation.box == Box(130, 40, 160, 60)
    assert nut.annotation.box == Box(30, 40, 50, 60)


def test_beyond_its_rim_a_picture_never_shows_an_object_again():
    picture = scene(("nut", GREEN, 2, 40, 30, 60))
    right = np.array([[1.0, 0, 40], [0, 1, 0]])
    made = warp_picture(picture, right, 0.4, [None])
    seen = find(made.pixels, GREEN)
    assert abs(seen.x_min - 42) <= 1
    assert overlap(made.marks[0].annotation.box, seen) > 0.9


def test_the_mask_of_the_whole_picture_goes_along():
    mask = np.zeros((120, 160), bool)
    mask[30:50, 20:60] = True
    picture = Picture("a", np.where(mask, 200, 30).astype(np.uint8), mask=mask)
    made = augment_picture(picture, 3, AugmentOptions(tone=STILL))
    assert made.mask.any()
    inside = made.pixels[20:-20, 20:-20] > 115
    assert (made.mask[20:-20, 20:-20] == inside).mean() > 0.97


def test_the_same_seed_makes_the_same_pictures_whatever_else_is_there():
    first, second = (scene(("nut", GREEN, 50, 40, 90, 62), name=name) for name in ("a.png", "b.png"))
    alone = list(augment_pictures([second], {"b.png": 4}, seed=7))
    among = [each for each in augment_pictures([first, second], {"a.png": 2, "b.png": 4}, seed=7) if "b" in each.name]
    for one, other in zip(alone, among, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.pixels, other.pixels)
        assert [mark.annotation for mark in one.marks] == [mark.annotation for mark in other.marks]
    others = list(augment_pictures([second], {"b.png": 4}, seed=8))
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(alone[1:], others[1:], strict=True))
    assert not any(np.array_equal(a.pixels, b.pixels) for a in first_of(alone) for b in alone[1:])


def first_of(pictures):
    return pictures[:1]


def test_the_first_of_each_is_the_picture_itself_and_all_of_one_share_a_group():
    pictures = [scene(name="a.png", group="day 1", split="train"), scene(name="b.png")]
    made = list(augment_pictures(iter(pictures), {"a.png": 2, "b.png": 2}))
    assert [each.name for each in made] == ["a.png", "a-0001.png", "b.png", "b-0001.png"]
    assert [each.group for each in made] == ["day 1", "day 1", "b.png", "b.png"]
    assert {each.split for each in made} == {"train"}
    assert np.array_equal(made[0].pixels, pictures[0].pixels)


def test_pictures_come_one_by_one():
    def read():
        yield scene()
        pytest.fail("the second was read before the first was done")

    made = augment_pictures(read(), {"a.png": 3})
    assert [next(made).name for _ in range(3)] == ["a.png", "a-0001.png", "a-0002.png"]


def test_shares_are_even_and_add_up():
    counts = share_out([f"{n}" for n in range(60)], 2500)
    assert sum(counts.values()) == 2500
    assert set(counts.values()) == {41, 42}
    few = share_out([f"{n}" for n in range(60)], 7)
    assert sorted(few.values()) == [0] * 53 + [1] * 7
    assert few == share_out([f"{n}" for n in range(60)], 7)
    assert few != share_out([f"{n}" for n in range(60)], 7, seed=1)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: share_out([], 5), "must be there"),
        (lambda: share_out(["a", "a"], 5), "name of its own"),
        (lambda: share_out(["a"], 0), "at least 1, is 0"),
        (lambda: AugmentOptions(Motion(turn_deg=200)), "turn_deg must be 0 to 180, is 200"),
        (lambda: AugmentOptions(Motion(zoom=0.5)), "zoom must be 1 to 4"),
        (lambda: AugmentOptions(Motion(shift=float("nan"))), "shift must be 0 to 0.5, is nan"),
        (lambda: AugmentOptions(tone=Tone(light=2)), "light must be 0 to 0.9"),
    ],
)
def test_what_is_out_of_range_is_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
