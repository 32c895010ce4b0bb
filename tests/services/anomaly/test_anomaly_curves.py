import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from services.anomaly.curves import (
    compute_auroc,
    compute_average_precision,
    compute_f1,
    count_rate,
    evaluate_scores,
    trace_roc,
)
from services.runtime.errors import InvalidArgument


def draw_scores(seed, ties):
    random = np.random.default_rng(seed)
    bad = random.random(80) < 0.4
    scores = random.normal(size=80) + bad
    return (np.round(scores) if ties else scores), bad


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_auroc_and_average_precision_agree_with_an_independent_implementation(seed, ties):
    scores, bad = draw_scores(seed, ties)
    assert compute_auroc(scores, bad) == pytest.approx(roc_auc_score(bad, scores), abs=1e-12)
    assert compute_average_precision(scores, bad) == pytest.approx(average_precision_score(bad, scores), abs=1e-12)


def test_auroc_is_the_share_of_pairs_in_the_right_order_with_ties_half():
    scores, bad = np.array([1.0, 2, 2, 3, 2]), np.array([False, False, True, True, True])
    pairs = [(g, b) for g in scores[~bad] for b in scores[bad]]
    assert compute_auroc(scores, bad) == sum((b > g) + (b == g) / 2 for g, b in pairs) / len(pairs)


def test_the_area_under_the_traced_curve_is_the_auroc_ties_included():
    scores, bad = draw_scores(1, ties=True)
    curve = trace_roc(scores, bad)
    x, y = [point.false_alarm_rate for point in curve], [point.detection_rate for point in curve]
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(compute_auroc(scores, bad), abs=1e-12)


def test_rates_at_the_threshold_count_what_is_strictly_above_it():
    scores = np.array([0.1, 0.5, 0.9, 0.5, 0.8, 0.2])
    bad = np.array([False, False, False, True, True, True])
    labels = ["good", "good", "good", "dent", "dent", "scratch"]
    figures = evaluate_scores(scores, bad, labels, np.full(6, 0.5))
    assert (figures.false_alarms.count, figures.false_alarms.total) == (1, 3)
    assert (figures.misses.count, figures.misses.total) == (2, 3)
    anomalous = {label.label: (label.anomalous.count, label.count) for label in figures.labels}
    assert anomalous == {"good": (1, 3), "dent": (1, 2), "scratch": (0, 1)}
    assert {label.label: label.auroc for label in figures.labels}["scratch"] == pytest.approx(1 / 3)


def test_without_a_threshold_there_are_no_rates():
    figures = evaluate_scores(np.array([0.0, 1]), np.array([False, True]), ["good", "bad"], None)
    assert (figures.auroc, figures.false_alarms, figures.misses, figures.f1) == (1, None, None, None)
    assert all(label.anomalous is None for label in figures.labels)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(0, 10, 0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1)]
)
def test_intervals_are_those_of_clopper_and_pearson(count, total, low, high):
    rate = count_rate(np.arange(total) < count)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_images_of_one_kind_only_are_refused():
    with pytest.raises(InvalidArgument, match="good and bad"):
        compute_auroc(np.zeros(3), np.zeros(3, bool))


@pytest.mark.parametrize("seed", range(3))
def test_f1_agrees_with_an_independent_implementation(seed):
    scores, bad = draw_scores(seed, ties=False)
    assert compute_f1(scores > 0.5, bad) == pytest.approx(f1_score(bad, scores > 0.5), abs=1e-12)
    assert evaluate_scores(scores, bad, ["x"] * 80, np.full(80, 0.5)).f1 == compute_f1(scores > 0.5, bad)


def test_each_image_is_held_against_its_own_threshold_and_those_without_one_are_left_out():
    scores = np.array([1.0, 11, 9, 12, 5])
    bad = np.array([False, False, True, True, True])
    labels = ["good", "good", "dent", "dent", "dent"]
    figures = evaluate_scores(scores, bad, labels, np.array([2.0, 10, 10, 10, np.nan]))
    assert (figures.false_alarms.count, figures.false_alarms.total) == (1, 2)
    assert (figures.misses.count, figures.misses.total) == (1, 2)
    assert figures.f1 == 2 / 4
    assert {label.label: (label.anomalous.count, label.anomalous.total) for label in figures.labels} == {
        "good": (1, 2),
        "dent": (1, 2),
    }
    assert evaluate_scores(scores, bad, labels, np.array([2.0, 10] + [np.nan] * 3)).f1 is None
