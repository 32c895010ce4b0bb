import numpy as np
import pytest

from services.anomaly import drift
from services.anomaly.drift import ERROR, DriftTest
from services.anomaly.threshold import choose_threshold, compute_p_value


def draw(random, count, shift=0.0):
    return np.exp(random.normal(shift, 0.3, count))


def calibrate(seed, count=400):
    scores = draw(np.random.default_rng(seed), count)
    return DriftTest(scores, choose_threshold(scores, 0.05, 0.9).value, seed)


def feed(test, scores):
    """The number of images after which drift was signalled; None if never."""
    for number, score in enumerate(scores):
        test.add(float(score))
        if test.drifted:
            return number + 1
    return None


def test_without_drift_it_is_signalled_no_more_often_than_stated():
    lines = [draw(np.random.default_rng(1000 + seed), 800) for seed in range(200)]
    alarms = sum(feed(calibrate(seed), line) is not None for seed, line in enumerate(lines))
    assert alarms <= 8  # 2 are expected at most; more than 8 by chance less than once in 1,000 times


def test_rising_scores_are_signalled_and_stay_so():
    for seed in range(10):
        test, random = calibrate(seed), np.random.default_rng(seed)
        assert feed(test, draw(random, 500)) is None
        assert feed(test, draw(random, 600, shift=0.3)) is not None
        test.add(0.5)
        assert test.drifted


def test_falling_scores_and_bad_parts_are_no_drift():
    for seed in range(10):
        test, random = calibrate(seed), np.random.default_rng(seed)
        falling = draw(random, 500, shift=-0.3)
        falling[::5] = 50  # one part in five is bad
        assert feed(test, falling) is None
        assert 395 <= test.seen <= 400


def test_the_evidence_begins_again_with_every_window(monkeypatch):
    monkeypatch.setattr(drift, "WINDOW", 50)
    test = calibrate(1)
    scores = draw(np.random.default_rng(5), 200)
    for score in scores[scores <= test._threshold][:50]:
        test.add(float(score))
    assert test.evidence != 1
    test.add(0.9)
    assert abs(test.evidence - 1) < 1.01
    assert test.seen == 51


def test_ties_are_parted_by_chance_and_not_by_order():
    scores = np.repeat([1.0, 2.0], 200)
    signalled = 0
    for seed in range(40):
        test = DriftTest(scores, 2.0, seed)
        signalled += feed(test, np.random.default_rng(seed).permutation(scores)) is not None
    assert signalled <= 4
    assert 1 / ERROR == 100


def test_the_p_value_is_the_share_of_normals_that_score_as_high():
    normal = np.array([1.0, 2, 2, 3])
    assert [compute_p_value(score, normal) for score in (0.5, 1, 2, 2.5, 3, 4)] == [1.0, 1.0, 0.8, 0.4, 0.4, 0.2]
    assert compute_p_value(1.0, np.empty(0)) is None


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_a_p_value_is_as_small_as_p_no_more_often_than_p(level):
    random = np.random.default_rng(3)
    hits = [compute_p_value(float(draw(random, 1)[0]), np.sort(draw(random, 99))) <= level for _ in range(4000)]
    assert np.mean(hits) <= level + 0.02
