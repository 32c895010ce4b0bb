import numpy as np
import pytest
from scipy import stats

from services.anomaly.threshold import choose_rank, choose_threshold, count_needed_normals, split_folds
from services.runtime.errors import FailedPrecondition, InvalidArgument


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"), [(0.01, 0.95, 299), (0.05, 0.95, 59), (0.1, 0.9, 22), (0.5, 0.5, 1)]
)
def test_the_normals_needed_are_those_of_wilks(rate, confidence, needed):
    assert count_needed_normals(rate, confidence) == needed
    assert choose_rank(needed, rate, confidence) == needed
    with pytest.raises(FailedPrecondition, match=f"needs {needed} normal images, got {needed - 1}") as refusal:
        choose_rank(needed - 1, rate, confidence)
    assert refusal.value.reason == "TOO_FEW_NORMALS"


@pytest.mark.parametrize("normals", [59, 60, 93, 200, 1000])
def test_the_rank_is_the_smallest_that_keeps_the_promise(normals):
    rank = choose_rank(normals, 0.05, 0.95)

    def keeps(k):  # F of the k-th smallest of n is Beta(k, n + 1 - k)
        return stats.beta.sf(0.95, k, normals + 1 - k)

    assert keeps(rank) >= 0.95
    assert keeps(rank - 1) < 0.95


@pytest.mark.parametrize("draw", [lambda r, n: r.normal(size=n), lambda r, n: r.integers(0, 30, n).astype(float)])
def test_the_promise_holds_in_at_least_the_stated_share_of_simulations(draw):
    random, rate, confidence, rounds = np.random.default_rng(0), 0.05, 0.9, 2000
    future = draw(random, 200_000)
    kept = sum(
        (future > choose_threshold(draw(random, 150), rate, confidence).value).mean() <= rate for _ in range(rounds)
    )
    # 4 standard errors of a share of 0.9 in 2,000 rounds
    assert kept / rounds >= confidence - 4 * np.sqrt(confidence * (1 - confidence) / rounds)


def test_the_threshold_is_one_of_the_scores_and_says_where_it_came_from():
    scores = np.arange(100.0)
    threshold = choose_threshold(scores, 0.05, 0.95)
    assert threshold.value == scores[threshold.rank - 1]
    assert (threshold.normals, threshold.false_alarm_rate, threshold.confidence) == (100, 0.05, 0.95)


@pytest.mark.parametrize(("rate", "confidence"), [(0, 0.95), (1, 0.95), (0.01, 0), (0.01, 1), (-1, 0.9)])
def test_an_impossible_promise_is_refused(rate, confidence):
    with pytest.raises(InvalidArgument, match="between 0 and 1"):
        count_needed_normals(rate, confidence)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(InvalidArgument, match="finite"):
        choose_threshold(np.full(100, np.nan), 0.05, 0.95)


def test_folds_hold_every_item_once_and_are_of_equal_size():
    items = [str(number) for number in range(23)]
    folds = split_folds(items, 5)
    assert sorted(item for fold in folds for item in fold) == sorted(items)
    assert {len(fold) for fold in folds} == {4, 5}
    assert split_folds(items, 5) == folds
    with pytest.raises(InvalidArgument, match="from 2 to"):
        split_folds(items[:1], 2)
