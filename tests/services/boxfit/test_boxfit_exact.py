import itertools
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.boxfit.exact import fit_exact
from services.boxfit.fit import Box, measure_fit
from services.runtime.errors import InvalidArgument

SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))
MAPS = SHAPES.flatmap(lambda shape: arrays.arrays(np.bool_, shape)).filter(np.any)


def search_all(ones):
    """Every box there is: the highest IoU, and of its boxes the first in order (x_min, y_min, x_max, y_max)."""
    height, width = ones.shape
    counts = np.zeros((height + 1, width + 1), dtype=np.int64)
    counts[1:, 1:] = ones.cumsum(axis=0).cumsum(axis=1)
    best, winners = Fraction(0), []
    for top, bottom in itertools.combinations(range(height + 1), 2):
        line = counts[bottom] - counts[top]
        inside = line[None, :] - line[:, None]  # (left, right)
        area = (bottom - top) * (np.arange(width + 1)[None, :] - np.arange(width + 1)[:, None])
        iou = np.where(area > 0, inside / np.maximum(counts[-1, -1] + area - inside, 1), -1)
        for left, right in zip(*np.nonzero(iou == iou.max()), strict=True):
            ratio = Fraction(int(inside[left, right]), int(counts[-1, -1] + area[left, right] - inside[left, right]))
            box = Box(int(left), top, int(right), bottom)
            if ratio >= best:
                winners = [*winners, box] if ratio == best else [box]
                best = ratio
    return best, min(winners)


def assert_is_best(ones):
    fit = fit_exact(ones)
    ratio, box = search_all(ones)
    assert Fraction(fit.intersection, fit.union) == ratio
    assert fit.box == box
    assert fit.optimal
    assert fit == measure_fit(ones, fit.box, fit.evaluations, optimal=True)


@settings(max_examples=400, deadline=None, database=None)
@given(MAPS)
def test_no_box_is_better_and_ties_go_to_the_first(ones):
    assert_is_best(ones)


@settings(max_examples=200, deadline=None, database=None)
@given(MAPS, st.data())
def test_runs_of_equal_rows_and_columns_are_searched_exactly(ones, data):
    heights = data.draw(st.lists(st.integers(1, 4), min_size=ones.shape[0], max_size=ones.shape[0]))
    widths = data.draw(st.lists(st.integers(1, 4), min_size=ones.shape[1], max_size=ones.shape[1]))
    assert_is_best(ones.repeat(heights, axis=0).repeat(widths, axis=1))


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(40, 47), (47, 40)])
def test_no_box_is_better_on_larger_noise(share, shape):
    assert_is_best(np.random.default_rng(7).random(shape) < share)


@pytest.mark.parametrize("seed", range(4))
def test_no_box_is_better_on_smooth_blobs(seed):
    coarse = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(5, 6)), (0, 0), 1)
    heat = cv2.resize(coarse, (48, 40), interpolation=cv2.INTER_LINEAR)
    assert_is_best(heat >= 0.3 * heat.max())


def test_a_filled_box_is_found_at_once():
    ones = np.zeros((50, 60), dtype=np.bool_)
    ones[10:30, 5:45] = True
    fit = fit_exact(ones)
    assert (fit.box, fit.iou, fit.evaluations) == (Box(5, 10, 45, 30), 1.0, 1)


def test_a_full_map_is_its_own_box():
    assert fit_exact(np.ones((7, 9), dtype=np.bool_)).box == Box(0, 0, 9, 7)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (8, 6), (4, 3)])
def test_a_single_pixel_is_its_own_box(x, y):
    ones = np.zeros((7, 9), dtype=np.bool_)
    ones[y, x] = True
    fit = fit_exact(ones)
    assert (fit.box, fit.intersection, fit.union) == (Box(x, y, x + 1, y + 1), 1, 1)


def test_a_map_of_one_row_or_column_is_searched():
    ones = np.array([[0, 1, 1, 0, 1, 0, 0, 0, 1]], dtype=np.bool_)
    assert fit_exact(ones).box == Box(1, 0, 5, 1)  # 3 of 4 columns; the far pixel would cost 3 empty ones
    assert fit_exact(ones.T).box == Box(0, 1, 1, 5)


def test_an_arm_that_would_bring_emptiness_is_left_out():
    ones = np.zeros((30, 60), dtype=np.bool_)
    ones[5:25, 5:25] = True
    ones[14, 25:55] = True
    fit = fit_exact(ones)
    assert fit.box == Box(5, 5, 25, 25)
    assert Fraction(fit.intersection, fit.union) == Fraction(400, 430)


def test_of_two_equal_objects_the_left_one_is_taken():
    ones = np.zeros((20, 60), dtype=np.bool_)
    ones[2:8, 40:46] = ones[12:18, 4:10] = True
    assert fit_exact(ones).box == Box(4, 12, 10, 18)


def test_a_larger_object_wins_though_the_search_begins_with_both():
    ones = np.zeros((100, 100), dtype=np.bool_)
    ones[5:15, 5:15] = True
    ones[60:90, 60:95] = True
    assert fit_exact(ones).box == Box(60, 60, 95, 90)


def test_strides_do_not_matter():
    ones = np.random.default_rng(3).random((36, 51)) < 0.4
    fit = fit_exact(np.ascontiguousarray(ones))
    wide = np.zeros((72, 102), dtype=np.bool_)
    wide[::2, ::2] = ones
    assert fit_exact(wide[::2, ::2]) == fit
    assert fit_exact(np.asfortranarray(ones)) == fit
    turned = fit_exact(ones[::-1, ::-1])
    assert (turned.intersection, turned.union) == (fit.intersection, fit.union)


def test_the_map_is_left_as_it_was():
    ones = np.random.default_rng(4).random((20, 20)) < 0.5
    ones.setflags(write=False)
    assert fit_exact(ones) == fit_exact(ones.copy())


def test_weights_beyond_32_bits_do_not_overflow():
    ones = np.zeros((3000, 4000), dtype=np.bool_)
    ones[100:2900, 100:3900] = True
    ones[::7, ::11] = False  # sums of weights reach 1e14
    fit = fit_exact(ones)
    assert fit.box == Box(100, 100, 3900, 2900)
    assert fit == measure_fit(ones, fit.box, fit.evaluations, optimal=True)


def test_an_empty_map_is_refused():
    with pytest.raises(InvalidArgument, match=r"map: must have at least 1 pixel set, has 0 of 12"):
        fit_exact(np.zeros((3, 4), dtype=np.bool_))


@pytest.mark.parametrize("wrong", [np.ones((3, 4), dtype=np.uint8), np.ones(3, dtype=np.bool_)])
def test_a_map_of_another_kind_is_refused(wrong):
    with pytest.raises(InvalidArgument, match="boolean"):
        fit_exact(wrong)
