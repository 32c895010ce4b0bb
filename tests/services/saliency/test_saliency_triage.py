import math

import numpy as np
import pytest

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.saliency.calibration import HeldOut
from services.saliency.triage import Verdict, Wish, choose_filter, count_blocks, extrapolate, find_promise

WANTED = np.array([True, False])


def hold_out(count, seed, others=300):
    """Wanted items whose probability is mostly high and distance mostly small, and others."""
    rng = np.random.default_rng(seed)
    wanted = np.concatenate([rng.beta(6, 1, count), rng.beta(1, 4, others)])
    distances = rng.gamma(2, 0.05, count + others)
    classes = np.array([0] * count + [1] * others)
    return HeldOut(
        np.stack([wanted, 1 - wanted], 1).astype(np.float32),
        distances.astype(np.float32),
        classes,
        np.arange(count + others),
    )


def measure_recall(chosen, seed):
    fresh = hold_out(20_000, seed, others=0)
    pairs = zip(fresh.probabilities[:, 0].tolist(), fresh.distances.tolist(), strict=True)
    return np.mean([chosen.judge(*pair) is Verdict.WANTED for pair in pairs])


def test_the_recall_is_kept_as_often_as_was_asked():
    """Of 200 draws of held-out items, at least about 90 % must keep the recall; far more would be too strict."""
    recalls = [measure_recall(choose_filter(hold_out(150, seed), WANTED, 0.9, 0.9), 10**6) for seed in range(200)]
    kept = np.mean(np.array(recalls) >= 0.9)
    assert 0.84 <= kept <= 0.99


def test_the_probability_bound_is_that_of_the_binomial():
    for n, recall in ((59, 0.95), (149, 0.98), (400, 0.9)):
        blocks = count_blocks(n, recall, 0.95)
        tails = [
            sum(math.comb(n, k) * (1 - recall) ** k * recall ** (n - k) for k in range(b)) for b in (blocks, blocks + 1)
        ]
        assert tails[0] <= 0.05 < tails[1]
    assert count_blocks(58, 0.95, 0.95) == 0
    assert find_promise(149, 1, 0.95) == pytest.approx(0.05 ** (1 / 149))


def test_with_too_few_items_all_of_them_are_kept_and_the_lesser_promise_is_told():
    held_out = hold_out(40, 1)
    chosen = choose_filter(held_out, WANTED, 0.98, 0.95)
    assert chosen.needed_count == 149
    assert chosen.promised_recall == pytest.approx(0.05 ** (1 / 40))
    assert (chosen.recall.count, chosen.recall.total) == (40, 40)
    assert chosen.threshold < held_out.probabilities[:40, 0].min()
    assert chosen.wanted_distance is None


def test_an_exponential_tail_is_carried_on_to_where_the_recall_is():
    """Log odds 3 less an exponential of scale 1: 2 in 100 of them lie more than ln(50) below 3."""
    odds = 3 - np.random.default_rng(0).exponential(1, 100_000)
    found = extrapolate(1 / (1 + np.exp(-odds)), 0.98, 0.5)
    assert np.log(found / (1 - found)) == pytest.approx(3 - np.log(50), abs=0.15)


def test_too_few_items_still_find_what_was_asked_in_most_draws():
    recalls = [measure_recall(choose_filter(hold_out(30, seed), WANTED, 0.98, 0.95), 10**6) for seed in range(100)]
    assert np.mean(np.array(recalls) >= 0.98) > 0.8
    lowest = [hold_out(30, seed).probabilities[:30, 0].min() for seed in range(100)]
    fresh = hold_out(20_000, 10**6, others=0).probabilities[:, 0]
    assert np.mean([np.mean(fresh >= least) >= 0.98 for least in lowest]) < 0.6


def test_equal_scores_have_no_tail():
    assert extrapolate(np.full(5, 0.7), 0.98, 0.95) == pytest.approx(0.7)


def test_more_items_cost_less_precision_for_the_same_recall():
    few, many = (choose_filter(hold_out(count, 3), WANTED, 0.95, 0.95) for count in (60, 2000))
    assert many.threshold > few.threshold
    assert many.promised_recall >= 0.95
    assert few.needed_count == many.needed_count == 59


def test_what_is_far_from_all_that_was_seen_is_unlike_it_however_probable():
    chosen = choose_filter(hold_out(2000, 5), WANTED, 0.95, 0.95)
    assert chosen.judge(0.999, 1.5) is Verdict.UNLIKE
    assert chosen.judge(0.001, 1.5) is Verdict.UNLIKE
    assert chosen.judge(0.999, 0.05) is Verdict.WANTED
    assert chosen.judge(0.001, 0.05) is Verdict.UNWANTED
    assert chosen.wanted_distance >= chosen.unlike_distance


def test_precision_is_what_held_out_items_say():
    held_out = hold_out(500, 2)
    chosen = choose_filter(held_out, WANTED, 0.9, 0.95)
    called = (held_out.probabilities[:, 0] >= chosen.threshold) & (held_out.distances <= chosen.wanted_distance)
    assert chosen.precision.total == called.sum()
    assert chosen.precision.count == chosen.recall.count == called[:500].sum()


def test_several_labels_may_be_wanted_together():
    probabilities = np.array([[0.3, 0.4, 0.3], [0.1, 0.1, 0.8]], np.float32)
    held_out = HeldOut(probabilities, np.zeros(2, np.float32), np.array([0, 2]), np.arange(2))
    chosen = choose_filter(held_out, np.array([True, True, False]), 0.9, 0.95)
    assert chosen.threshold == pytest.approx(0.7)


def test_nothing_can_be_promised_of_what_was_never_held_out():
    for held_out, wanted in ((None, WANTED), (hold_out(0, 1), WANTED)):
        with pytest.raises(FailedPrecondition) as refusal:
            choose_filter(held_out, wanted, 0.98, 0.95)
        assert refusal.value.reason == "NO_HELD_OUT_ITEMS"


@pytest.mark.parametrize(
    ("labels", "fields"),
    [((), {}), (("a", "b"), {}), (("c",), {}), (("a",), {"recall": 1.0}), (("a",), {"confidence": float("nan")})],
)
def test_a_wish_that_cannot_be_is_refused_by_name(labels, fields):
    with pytest.raises(InvalidArgument) as refusal:
        Wish(labels, **fields).find_wanted(("a", "b"))
    assert refusal.value.field == next(iter(fields), "wanted_labels")
