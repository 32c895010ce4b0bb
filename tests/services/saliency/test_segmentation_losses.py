"""The losses of SEC against values worked out by hand, and rank pooling against its two limits."""

from math import log

import pytest
import torch

from services.saliency.segmentation.losses import (
    compute_constrain_loss,
    compute_expansion_loss,
    compute_seeding_loss,
    pool_by_rank,
)

# One image of 1 x 2 positions, background and two classes.
SCORES = torch.tensor([[[[0.5, 0.2]], [[0.25, 0.7]], [[0.25, 0.1]]]])


def test_seeding_is_the_mean_negative_logarithm_at_the_cues_alone():
    cues = torch.zeros(1, 3, 1, 2, dtype=torch.bool)
    cues[0, 0, 0, 0] = cues[0, 1, 0, 1] = True
    assert compute_seeding_loss(SCORES, cues).item() == pytest.approx(-(log(0.5) + log(0.7)) / 2)


def test_an_image_without_cues_adds_nothing_to_seeding():
    cues = torch.zeros(2, 3, 1, 2, dtype=torch.bool)
    cues[0, 0, 0, 0] = True
    assert compute_seeding_loss(SCORES.expand(2, -1, -1, -1), cues).item() == pytest.approx(-log(0.5) / 2)


def test_rank_pooling_is_the_maximum_where_the_decay_is_0_and_the_mean_where_it_is_1():
    scores = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pool_by_rank(scores, 0.0), scores.amax((2, 3)))
    assert torch.allclose(pool_by_rank(scores, 1.0), scores.mean((2, 3)))


def test_rank_pooling_weighs_the_highest_most():
    scores = torch.tensor([[[0.1, 0.9], [0.3, 0.5]]])
    expected = (0.9 + 0.5 * 0.5 + 0.25 * 0.3 + 0.125 * 0.1) / 1.875
    assert pool_by_rank(scores, 0.5, positions=4).item() == pytest.approx(expected)


def test_rank_pooling_means_the_same_share_of_an_image_at_any_resolution():
    coarse = torch.linspace(0, 1, 41 * 41).reshape(1, 41, 41)
    fine = torch.linspace(0, 1, 82 * 82).reshape(1, 82, 82)
    assert pool_by_rank(coarse, 0.996).item() == pytest.approx(pool_by_rank(fine, 0.996).item(), abs=1e-3)


def test_expansion_asks_for_what_is_shown_against_what_is_not_and_for_background():
    present = torch.tensor([[True, False]])
    loss = compute_expansion_loss(SCORES, present, 1.0, 0.0, 1.0)
    assert loss.item() == pytest.approx(-(log((0.25 + 0.7) / 2) + log(1 - 0.25) + log((0.5 + 0.2) / 2)))


def test_expansion_of_an_image_without_objects_forbids_all_of_them():
    loss = compute_expansion_loss(SCORES, torch.tensor([[False, False]]), 1.0, 0.0, 1.0)
    assert loss.item() == pytest.approx(-((log(1 - 0.7) + log(1 - 0.25)) / 2 + log((0.5 + 0.2) / 2)))


def test_constraining_is_0_where_the_edges_agree_and_the_divergence_elsewhere():
    assert compute_constrain_loss(SCORES, SCORES).item() == pytest.approx(0, abs=1e-6)
    other = SCORES.flip(1)
    by_hand = 0.5 * sum(q * log(q / f) for f, q in ((0.5, 0.25), (0.25, 0.25), (0.25, 0.5)))
    by_hand += 0.5 * sum(q * log(q / f) for f, q in ((0.2, 0.1), (0.7, 0.7), (0.1, 0.2)))
    assert compute_constrain_loss(SCORES, other).item() == pytest.approx(by_hand)


def test_losses_stay_finite_where_a_score_is_0():
    scores = torch.tensor([[[[1.0]], [[0.0]]]], requires_grad=True)
    cues = torch.tensor([[[[False]], [[True]]]])
    losses = [
        compute_seeding_loss(scores, cues),
        compute_expansion_loss(scores, torch.tensor([[True]]), 0.996, 0.0, 0.999),
        compute_constrain_loss(scores, 1 - scores.detach()),
    ]
    torch.stack(losses).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses)
    assert torch.isfinite(scores.grad).all()
