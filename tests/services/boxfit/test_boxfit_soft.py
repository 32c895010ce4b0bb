"""The best box of a soft map, against every box there is."""

import itertools
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.boxfit.exact import FULL, fit_exact, fit_soft
from services.boxfit.fit import Box
from services.runtime.errors import InvalidArgument

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))
LEVELS = SHAPES.flatmap(lambda shape: arrays.arrays(np.uint8, shape)).filter(np.any)


def search_all(levels):
    """The highest value of the objective over all boxes, and of its boxes the first in order."""
    height, width = levels.shape
    values = levels.astype(int)
    best, winners = Fraction(0), []
    for top, bottom in itertools.combinations(range(height + 1), 2):
        for left, right in itertools.combinations(range(width + 1), 2):
            inside = int(values[top:bottom, left:right].sum())
            area = FULL * (bottom - top) * (right - left)
            ratio = Fraction(inside, int(values.sum()) + area - inside)
            if ratio >= best:
                winners = [*winners] if ratio == best else []
                winners.append(Box(left, top, right, bottom))
                best = ratio
    return best, min(winners)


def to_heat(levels):
    """A map whose levels are these once it is scaled to its maximum."""
    full = levels.copy()
    full.flat[levels.argmax()] = FULL
    return full, full.astype(np.float32) * np.float32(0.01)


@settings(max_examples=300, deadline=None, database=None)
@given(LEVELS)
def test_no_box_has_a_higher_value_and_ties_go_to_the_first(levels):
    full, heat = to_heat(levels)
    fit = fit_soft(heat)
    ratio, box = search_all(full)
    assert (Fraction(fit.intersection, fit.union), fit.box) == (ratio, box)
    assert fit.optimal


@settings(max_examples=100, deadline=None, database=None)
@given(LEVELS, st.data())
def test_runs_of_equal_rows_and_columns_are_searched_exactly(levels, data):
    heights = data.draw(st.lists(st.integers(1, 3), min_size=levels.shape[0], max_size=levels.shape[0]))
    full, _ = to_heat(levels)
    full = full.repeat(heights, axis=0)
    fit = fit_soft(full.astype(np.float32))
    assert (Fraction(fit.intersection, fit.union), fit.box) == search_all(full)


@pytest.mark.parametrize("seed", range(3))
def test_no_box_is_better_on_smooth_maps(seed):
    noise = np.maximum(np.random.default_rng(seed).normal(size=(4, 5)), 0)
    heat = cv2.resize(noise.astype(np.float32), (24, 20), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(heat * np.float32(FULL / heat.max())).astype(np.uint8)
    fit = fit_soft(heat)
    assert (Fraction(fit.intersection, fit.union), fit.box) == search_all(levels)


def test_a_binary_map_gets_the_box_with_the_highest_iou():
    ones = np.random.default_rng(1).random((30, 40)) < 0.4
    soft, exact = fit_soft(ones.astype(np.float32) * 7), fit_exact(ones)
    assert (soft.box, soft.iou) == (exact.box, pytest.approx(exact.iou))


def test_the_map_sets_its_own_threshold():
    """A warm frame is taken in where it is warm enough beside what is gained already."""
    heat = np.zeros((30, 30), np.float32)
    heat[10:20, 10:20] = 1
    heat[20:24, 10:20] = 0.6
    assert fit_soft(heat).box == Box(10, 10, 20, 24)
    heat[20:24, 10:20] = 0.3
    assert fit_soft(heat).box == Box(10, 10, 20, 20)


def test_what_speaks_against_counts_as_nothing():
    heat = np.full((6, 6), -3, np.float32)
    heat[2:4, 1:5] = 0.5
    assert fit_soft(heat).box == Box(1, 2, 5, 4)


def test_the_scale_of_a_map_does_not_matter():
    heat = np.random.default_rng(2).random((20, 20)).astype(np.float32) ** 3
    assert fit_soft(heat) == fit_soft(heat * 4)


def test_a_large_map_has_fewer_levels_and_does_not_overflow():
    heat = np.zeros((3000, 4000), np.float32)
    heat[100:2900, 100:3900] = 1
    heat[::7, ::11] = 0.5
    assert fit_soft(heat).box == Box(100, 100, 3900, 2900)


@pytest.mark.parametrize("wrong", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.full((3, 4), -1.0), np.ones(3)])
def test_a_map_without_heat_is_refused(wrong):
    with pytest.raises(InvalidArgument) as refused:
        fit_soft(wrong.astype(np.float32))
    assert refused.value.field == "map"
