"""Which rate factor is chosen, from scores alone."""

import numpy as np
import pytest

from services.anomaly.rate_search import Loss, Point, Trial, even_out, mean_auroc, measure_loss, search


class Curve:
    """A loss for each rate factor, which remembers what was asked."""

    def __init__(self, loss):
        self.loss, self.asked = loss, []

    def __call__(self, crf):
        self.asked.append(crf)
        return Point(crf, 1000.0 - crf, 0.9, Loss(self.loss(crf), 0.0, 0.0))


@pytest.mark.parametrize("limit", range(20, 47))
def test_the_largest_rate_factor_is_found_wherever_the_loss_begins(limit):
    curve = Curve(lambda crf: 0.0 if crf <= limit else 0.1)
    crf, points = search(20, 46, 0.005, curve)
    assert crf == limit
    assert [point.crf for point in points] == sorted(set(curve.asked))
    assert len(curve.asked) <= 10


def test_none_is_found_where_the_smallest_costs_too_much():
    crf, points = search(20, 46, 0.005, Curve(lambda _: 0.2))
    assert crf is None
    assert len(points) == 6


def test_a_range_of_one_is_tried_once():
    curve = Curve(lambda _: 0.0)
    assert search(30, 30, 0.005, curve)[0] == 30
    assert curve.asked == [30]


def test_one_unlucky_point_among_good_ones_does_not_end_the_search():
    losses = {20: 0.001, 25: 0.008, 30: 0.0, 36: 0.001, 41: 0.002, 46: 0.2}
    crf, _ = search(20, 46, 0.005, Curve(lambda crf: losses.get(crf, 0.002 if crf < 44 else 0.2)))
    assert crf == 43


def test_the_evened_curve_never_falls_and_keeps_one_that_does_not():
    points = [Point(n, 1.0, 0.9, Loss(value, 0, 0)) for n, value in enumerate([0.0, 0.02, 0.0, 0.05])]
    assert even_out(points) == pytest.approx([0.0, 0.01, 0.01, 0.05])


def make_trials(shift, seed=1):
    random = np.random.default_rng(seed)
    normals = [random.normal(0, 1, 60) for _ in range(3)]
    return [Trial(each, each + random.normal(2, 1, 60) - shift) for each in normals]


def test_the_interval_holds_the_loss_and_is_narrow_where_nothing_changed():
    before = make_trials(0)
    same = measure_loss(before, before, 0)
    assert same == Loss(0.0, 0.0, 0.0)
    worse = measure_loss(before, make_trials(0.7), 0)
    assert worse.value == pytest.approx(mean_auroc(before) - mean_auroc(make_trials(0.7)))
    assert 0 < worse.low < worse.value < worse.high
    assert measure_loss(before, make_trials(0.7), 0) == worse


def test_defects_that_were_given_are_drawn_by_themselves():
    before = [Trial(np.arange(10.0), np.arange(5.0, 12.0))]
    after = [Trial(np.arange(10.0), np.arange(4.0, 11.0))]
    loss = measure_loss(before, after, 0)
    assert loss.low <= loss.value <= loss.high
    assert loss.value > 0
