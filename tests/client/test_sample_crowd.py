"""Rendered pictures of many parts, and the truth about them."""

import numpy as np
import pytest

from mekiki.sample_parts import KINDS
from mekiki.sample_parts.crowd import render_crowd
from mekiki.sample_parts.part import PARTS
from mekiki.sample_parts.picture import render_parts_together, render_picture
from mekiki.sample_parts.scene import Pose, draw_handheld


def test_the_same_seed_gives_the_same_picture_and_another_index_another():
    first, again, other = render_crowd(3, size=128), render_crowd(3, size=128), render_crowd(4, size=128)
    assert np.array_equal(first.pixels, again.pixels)
    assert (first.labels, first.boxes) == (again.labels, again.boxes)
    assert not np.array_equal(first.pixels, other.pixels)


def test_many_parts_of_all_kinds_lie_within_the_picture():
    crowds = [render_crowd(index, size=192, most=10) for index in range(6)]
    assert {label for crowd in crowds for label in crowd.labels} == set(KINDS)
    assert 4 <= np.mean([len(crowd.boxes) for crowd in crowds]) <= 10
    for crowd in crowds:
        assert crowd.pixels.shape == (192, 192, 3)
        for left, top, right, bottom in crowd.boxes:
            assert 0 < left < right < 192
            assert 0 < top < bottom < 192


def test_each_box_holds_its_part_to_the_pixel():
    scene = draw_handheld(np.random.default_rng(0))
    poses = [(PARTS[1], Pose(0.3, 120, 130, 0.5)), (PARTS[2], Pose(0, 370, 360, 0.5))]
    together = render_parts_together(poses, scene, 256, (1, 2, 3))
    bare = render_picture(None, "", scene, 256, (1, 2, 3)).pixels.astype(int)
    differs = np.abs(together.pixels.astype(int) - bare).max(axis=2) > 40
    for mask in together.parts:
        assert differs[mask].mean() > 0.5, "there is metal where the part is said to be"
    assert differs[~np.logical_or(*together.parts)].mean() < 0.03, "and none elsewhere, but for shadows"
    assert not np.logical_and(*together.parts).any()


@pytest.mark.parametrize("most", [1, 3])
def test_there_are_no_more_parts_than_asked_for(most):
    assert all(len(render_crowd(index, size=64, most=most).boxes) <= most for index in range(8))
