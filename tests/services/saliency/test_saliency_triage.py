import math

import numpy as np
import pytest

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.saliency.calibration import HeldOut
from services.saliency.triage import Verdict, Wish, _cut_off, choose_filter, count_blocks, extrapolate, find_promise

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


def test_of_the_blocks_that_are_cut_off_the_last_item_of_either_measure_is_kept():
    held_out = hold_out(400, 4, others=0)
    scores, distances = held_out.probabilities[:, 0].astype(np.float64), held_out.distances
    for blocks in (2, 5, 12, 40):
        threshold, limit = _cut_off(scores, distances, blocks)
        assert ((scores >= threshold) & (distances <= limit)).sum() == 400 - blocks + 2
        assert (distances > limit).sum() == max(1, round(blocks / 4)) - 1


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
    assert chosen.promised_recall == pytest.approx(find_promise(40, 2, 0.95))
    assert 0.85 < chosen.promised_recall < 0.05 ** (1 / 40)
    assert (chosen.recall.count, chosen.recall.total) == (40, 40)
    assert chosen.threshold < held_out.probabilities[:40, 0].min()
    assert chosen.wanted_distance >= held_out.distances[:40].max()


@pytest.mark.parametrize(("recall", "needed"), [(0.98, 236), (0.95, 93), (0.9, 46)])
def test_how_many_items_a_promise_needs(recall, needed):
    assert choose_filter(hold_out(40, 1), WANTED, recall, 0.95).needed_count == needed
    assert count_blocks(needed, recall, 0.95) == 2
    assert count_blocks(needed - 1, recall, 0.95) == 1


def test_an_exponential_tail_is_carried_on_to_the_share_that_is_meant():
    values = 3 + np.random.default_rng(0).exponential(2, 100_000)
    assert extrapolate(values, 0.02, 0.5) == pytest.approx(3 + 2 * np.log(50), rel=0.02)
    assert extrapolate(values[:20], 0.02, 0.95) > extrapolate(values[:20], 0.02, 0.5)
    assert extrapolate(np.full(5, 0.7), 0.02, 0.95) == 0.7


def test_too_few_items_still_find_what_was_asked_in_most_draws():
    recalls = [measure_recall(choose_filter(hold_out(30, seed), WANTED, 0.98, 0.95), 10**6) for seed in range(100)]
    assert np.mean(np.array(recalls) >= 0.97) > 0.7
    lowest = [hold_out(30, seed).probabilities[:30, 0].min() for seed in range(100)]
    fresh = hold_out(20_000, 10**6, others=0).probabilities[:, 0]
    assert np.mean([np.mean(fresh >= least) >= 0.98 for least in lowest]) < 0.6


def test_with_few_items_too_what_is_far_from_all_is_unlike_it():
    for seed in range(20):
        assert choose_filter(hold_out(30, seed), WANTED, 0.98, 0.95).judge(1.0, 1.5) is Verdict.UNLIKE


def test_more_items_cost_less_precision_for_the_same_recall():
    few, many = (choose_filter(hold_out(count, 3), WANTED, 0.95, 0.95) for count in (60, 2000))
    assert many.threshold > few.threshold
    assert many.promised_recall >= 0.95
    assert few.needed_count == many.needed_count == 93


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
    probabilities = np.repeat(np.array([[0.3, 0.4, 0.3], [0.1, 0.1, 0.8]], np.float32), 50, axis=0)
    held_out = HeldOut(probabilities, np.zeros(100, np.float32), np.repeat([0, 2], 50), np.arange(100))
    chosen = choose_filter(held_out, np.array([True, True, False]), 0.9, 0.95)
    assert chosen.threshold == pytest.approx(0.7)
    assert (chosen.recall.count, chosen.precision.total) == (50, 50)


def test_nothing_can_be_promised_of_what_was_never_held_out():
    for held_out, wanted in ((None, WANTED), (hold_out(0, 1), WANTED), (hold_out(1, 1), WANTED)):
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
