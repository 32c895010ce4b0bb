"""Where pictures speak for their labels, by heads that see little and by heads that see much."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from patches import CPU, LABELS, SIDE, draw_labelled, measure_ious, train_on

from services.saliency.recipe import Watch
from services.saliency.segmentation import refined
from services.saliency.segmentation.dense_crf import Edges
from services.saliency.segmentation.evidence import (
    COARSE,
    COMPACT,
    FILLED,
    FINE,
    LOOKS,
    Look,
    choose_looks,
    compute_evidence_loss,
    widen,
)
from services.saliency.segmentation.features import Features, measure
from services.saliency.segmentation.labelled import BACKGROUND, UNKNOWN, LabelledSet
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.network import SteadyBody, build_segmentation_network
from services.saliency.segmentation.recipe import Engine, Recipe
from services.saliency.segmentation.seeds import LEAST_KEPT, bring_to_edges, choose_seeds, spread_seeds

REFINED = Recipe(backbone="small", epochs=80, batch_size=4, engine=Engine.REFINED)
HALF = Look("half", 0, 0.5, 0.5, share_at_first=0.5, least=0.1)


def log_odds(*positions):
    """Logits (1, 2, 1, p) of a label against the background."""
    logits = torch.zeros(1, 2, 1, len(positions))
    logits[0, 1, 0] = torch.tensor(positions)
    return logits


def test_a_picture_that_shows_a_label_is_to_show_it_somewhere_and_background_elsewhere():
    logits, present = log_odds(2.0, 2.0, -2.0, -2.0), torch.tensor([[True]])
    sure = -np.log(1 / (1 + np.exp(-2.0)))
    assert compute_evidence_loss(logits, present, HALF).item() == pytest.approx(2 * sure, rel=1e-5)


def test_a_picture_without_labels_is_background_everywhere_and_its_worst_position_counts_twice():
    logits, absent = log_odds(2.0, -2.0, -2.0, -2.0), torch.tensor([[False]])
    wrong, right = np.log(1 + np.exp(2.0)), np.log(1 + np.exp(-2.0))
    assert compute_evidence_loss(logits, absent, HALF).item() == pytest.approx(
        (wrong + 3 * right) / 4 + wrong, rel=1e-5
    )


def test_what_a_picture_does_not_show_is_to_be_nowhere():
    present = torch.tensor([[True, False]])
    shown = torch.zeros(1, 3, 1, 4)
    shown[0, 1, 0, :2] = 3.0
    also = shown.clone()
    also[0, 2, 0, 3] = 3.0
    assert compute_evidence_loss(also, present, HALF) > compute_evidence_loss(shown, present, HALF) + 0.1


@pytest.mark.parametrize(
    ("near", "filling", "left", "look"),
    [
        (1.0, (0.3, 0.3), 0.0, FINE),  # small, and told by what is near
        (0.8, (0.3, 0.3), 0.0, COARSE),  # small, but told only by what is far, too
        (1.0, (0.9, 0.9), 0.0, COARSE),  # fills the picture
        (1.0, (0.3, 0.9), 0.0, COARSE),  # some are large: most of its pixels are theirs
        (1.0, (0.3, 0.3), 0.2, COMPACT),  # has edges, whatever else
        (0.8, (0.9, 0.9), 0.2, COMPACT),
    ],
)
def test_the_look_that_suits_the_objects_of_a_label_looks_for_them(near, filling, left, look):
    present = np.arange(200)[:, None] < 100
    shown, kept = np.zeros((len(LOOKS), 200, 1)), np.zeros((200, 1))
    shown[COARSE, :100] = 1
    shown[FINE, :100, 0] = np.where(np.arange(100) < 100 * near, 1, -1)
    shown[FILLED, :80], shown[FILLED, 80:100] = filling
    kept[:60] = left  # most pictures decide
    assert choose_looks(shown, kept, present) == (look,)


def test_the_edges_of_a_picture_correct_a_look_and_where_there_are_none_nothing_is_left():
    rng, square = np.random.default_rng(0), np.zeros((64, 64), bool)
    square[20:36, 24:40] = True
    plain = rng.normal(90, 3, (64, 64, 3))
    bright = np.where(square[..., None], plain + 90, plain)
    odds = np.full((1, 16, 16), -5, np.float32)
    odds[0, 4:10, 5:11] = 5  # a blob that is twice as large and lies a little beside it
    bright = bright.astype(np.uint8)
    bright.flags.writeable = False  # as the pictures of a training are
    brought, kept = bring_to_edges(odds, bright, Edges())
    found = cv2.resize(brought[0], (64, 64), interpolation=cv2.INTER_NEAREST) > 0
    assert (found & square).sum() / (found | square).sum() > 0.9
    assert LEAST_KEPT < kept < 1
    brought, kept = bring_to_edges(odds / 5, plain.astype(np.uint8), Edges())
    assert kept < LEAST_KEPT
    assert (choose_seeds(brought, np.array([0]), np.array([0.0005])) == UNKNOWN).all(), (
        "it is there, but not known where"
    )


def test_a_look_asks_for_much_of_a_picture_first_and_for_its_share_in_the_end():
    fine = LOOKS[FINE]
    shares = [widen(fine, progress).share for progress in (0, 0.25, 0.5, 1)]
    assert shares[0] == fine.share_at_first
    assert shares == sorted(shares, reverse=True)
    assert shares[2:] == [fine.share] * 2


def test_a_label_that_every_picture_shows_says_nothing_about_its_size():
    shown = np.random.default_rng(0).random((len(LOOKS), 6, 1))
    assert choose_looks(shown, np.zeros((6, 1)), np.ones((6, 1), bool)) == (COARSE,)


def test_what_lies_elsewhere_in_a_picture_changes_no_evidence_here():
    network = build_segmentation_network("mobilenetv2_100", 2, input_size=128, stride=4, local=True)
    pictures = np.full((2, 128, 128, 3), 120, np.uint8)
    pictures[1, 112:, 112:] = 200
    eyes = refined.open_eyes(Features(network.module.body, network.network, pictures), 2, 0)
    for head in eyes.module.heads:
        head.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = eyes.module(eyes.features.read(np.arange(2), mirrored=False))[FINE]
    assert not torch.equal(first[..., -4:, -4:], second[..., -4:, -4:])
    assert torch.equal(first[..., :8, :8], second[..., :8, :8])


def test_seeds_are_of_what_a_picture_shows_and_there_is_always_one():
    data = draw_labelled(3)
    network = build_segmentation_network("small", 2, input_size=SIDE)
    body = SteadyBody(network.module.body, network.module.widths)
    eyes = refined.open_eyes(
        Features(body, network.network, data.pictures), 2, 0
    )  # nothing learnt: nothing speaks for anything
    seeds, wide = refined.place_seeds(eyes, data, 8, Edges(), Watch().report)
    for present, own in zip(data.present, seeds, strict=True):
        labels = np.flatnonzero(present) + 1
        assert set(np.unique(own).tolist()) <= {BACKGROUND, UNKNOWN, *labels.tolist()}
        assert present.any() or (own == BACKGROUND).all()
    assert not wide.any(), "nothing says that anything is large"


class Sides:
    """Of a picture, its side alone."""

    def __init__(self, side):
        self.side = side

    def read(self, batch, *, mirrored):
        return [torch.empty(len(batch), 0, self.side, self.side)]

    def compute(self, pictures):
        return [torch.empty(len(pictures), 0, *pictures.shape[1:3])]


class SeesHalf(torch.nn.Module):
    """Of a large object the looks see the middle alone; in a picture of half the size all of it."""

    def __init__(self, side, inside):
        super().__init__()
        self.side, self.inside = side, inside

    def forward(self, maps):
        count, _, _, side = maps[0].shape
        cells = side // 4
        shown = self.inside.astype(np.float32)
        if side == self.side:
            shown = cv2.erode(shown, np.ones((17, 17), np.uint8))
        odds = torch.from_numpy(cv2.resize(shown, (cells, cells), interpolation=cv2.INTER_AREA) * 10 - 5)
        logits = torch.zeros(count, 2, cells, cells)
        logits[:, 1] = odds
        return [logits] * len(LOOKS)


def test_a_large_object_is_seen_whole_in_a_picture_of_half_the_size():
    rng, inside = np.random.default_rng(0), np.zeros((64, 64), bool)
    inside[12:52, 12:52] = True
    pictures = np.stack([rng.normal(60, 3, (64, 64, 3)) + 120 * inside[..., None]] * 2).astype(np.uint8)
    pictures[1] = rng.normal(60, 3, (64, 64, 3)).astype(np.uint8)  # nothing
    # Two labels' worth of colour inside, so that the CRF alone does not fill what the look left out.
    pictures[0, 12:52, 12:22] = (20, 160, 20)
    data = LabelledSet(pictures, ("part",), np.array([[True], [False]]), np.array([0, -1]), ("", ""))
    eyes = refined.EyeNetwork(SeesHalf(64, inside), Sides(64), {}, {})
    seeds, wide = refined.place_seeds(eyes, data, 16, Edges(), Watch().report)
    assert not wide.any()
    found = seeds[0] == 1
    truth = cv2.resize(inside.astype(np.uint8), (16, 16), interpolation=cv2.INTER_AREA) > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    assert (seeds[1] == BACKGROUND).all()


def test_wide_labels_are_spread_and_what_is_known_of_others_stays():
    data = draw_labelled(3)
    scores = np.full((len(LABELS) + 1, 8, 8), 0.01, np.float32)
    scores[0], scores[0, :, :4], scores[1, :, :4] = 0.98, 0.01, 0.98  # the first label: everywhere on the left

    class Sure:
        def score(self, images):
            return np.stack([scores] * len(images))

    before = np.full((len(data.pictures), 8, 8), BACKGROUND, np.uint8)
    both = int(np.flatnonzero(data.present.all(1))[0])
    before[both, 0], before[both, 7] = 2, UNKNOWN
    plain = np.zeros_like(data.pictures)  # a picture without edges
    wide = np.array([1, 0], np.uint8)
    spread = spread_seeds(Sure(), replace(data, pictures=plain), (before, wide), Edges(), Watch().report)
    for number, present in enumerate(data.present):
        if number == both:
            assert (spread[number, 0] == 2).all()
            assert (spread[number, 1:, :3] == 1).all()
            assert (spread[number, 1:7, 5:] == BACKGROUND).all()
            assert (spread[number, 7, 5:] == UNKNOWN).all(), "the other label may yet be there"
        elif present[0]:
            assert (spread[number, :, :3] == 1).all()
            assert (spread[number, :, 5:] == BACKGROUND).all()
        else:
            assert np.array_equal(spread[number], before[number])


def test_what_learnt_from_evidence_finds_the_pixels():
    found = measure_ious(train_on(draw_labelled(8), REFINED))
    assert found[0] > 0.7
    assert (found[1:] > 0.25).all()


def test_a_local_network_learns_its_head_alone_and_keeps_what_it_measured():
    network = build_segmentation_network("mobilenetv2_100", 2, input_size=64, stride=4, local=True)
    assert not network.pretrained
    assert all(name.startswith("head.") for name in network.fresh)
    data = draw_labelled(3)
    image = data.pictures[0]
    before = Segmenter(network, LABELS, CPU).score([image])
    network.module.head.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    measure(network.module.body, network.network, data.pictures)
    segmenter = Segmenter(network, LABELS, CPU)
    scores = segmenter.score([image])
    assert not np.array_equal(scores, before)
    assert np.array_equal(Segmenter.load(segmenter.save(), CPU).score([image]), scores)


def test_pictures_are_drawn_so_that_rare_labels_count_as_much():
    data = draw_labelled(4, both=0)
    few = replace(data, **{name: getattr(data, name)[3:] for name in ("pictures", "present", "mains", "groups")})
    odds = refined.find_odds(few)
    assert odds.sum() == pytest.approx(1)
    assert odds[few.present[:, 0]].sum() == pytest.approx(odds[few.present[:, 1]].sum())


def test_the_loss_of_small_objects_counts_as_if_they_were_larger():
    logits, seeds = torch.zeros(1, 2, 10, 10), torch.zeros(1, 10, 10, dtype=torch.long)
    seeds[0, 0, 0] = 1
    assert refined._compute_loss(logits, seeds).item() == pytest.approx(np.log(2) * (1 + refined.LEAST_WEIGHT))
    seeds[0, :4], seeds[0, 4:] = 1, UNKNOWN
    seeds[0, 4, 0] = BACKGROUND
    assert refined._compute_loss(logits.to(CPU), seeds).item() == pytest.approx(np.log(2) * 1.4, rel=1e-5)
