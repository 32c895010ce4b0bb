"""A segmenter learns from labels alone which pixels show what."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from patches import CPU, LABELS, SHORT, SIDE, draw_labelled, draw_part, measure_ious, train_on

from services.runtime.errors import DataLoss, InvalidArgument
from services.saliency.recipe import Recipe as ClassifierRecipe
from services.saliency.recipe import Watch
from services.saliency.segmentation import train as training
from services.saliency.segmentation.drawing import draw, find_refined_size
from services.saliency.segmentation.labelled import BACKGROUND, UNKNOWN, fit_mask, fit_trimap, shrink_classes
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.network import build_segmentation_network
from services.saliency.segmentation.recipe import EPOCHS, Engine, count_epochs
from services.saliency.segmentation.seeds import ask_for_seeds
from services.saliency.segmentation.stages import fingerprint_training


@pytest.fixture(scope="module")
def segmenter():
    return train_on(draw_labelled(8))


@pytest.fixture(autouse=True)
def _short_classifiers(segmenter, monkeypatch):
    """The one above apart, how well the classifier learns does not matter here."""
    monkeypatch.setattr(training, "ClassifierRecipe", partial(ClassifierRecipe, epochs=4))


def tensors_of(segmenter):
    return segmenter.network.module.state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_what_learnt_from_labels_alone_finds_the_pixels(segmenter):
    ious = measure_ious(segmenter)
    assert ious[0] > 0.6
    assert (ious[1:] > 0.15).all()


def test_the_crf_brings_outlines_to_the_edges_of_the_image(segmenter):
    refined = measure_ious(segmenter, refine=True)
    assert (refined > measure_ious(segmenter)).all()
    assert (refined[1:] > 0.25).all()


def test_a_saved_segmenter_answers_as_before_to_the_bit_whatever_shares_a_batch(segmenter):
    images = [draw_part(np.random.default_rng(seed), seed % 2)[0] for seed in range(5)]
    images += [np.repeat(images[0], 3, axis=1), images[1][..., 0].astype(np.uint16) * 257]
    again = Segmenter.load(segmenter.save(), CPU)
    scores = segmenter.score(images)
    assert scores.shape == (7, 3, SIDE // 8, SIDE // 8)
    assert scores.dtype == np.float32
    assert np.allclose(scores.sum(1), 1, atol=1e-6)
    assert np.array_equal(again.score(images), scores)
    assert again.save() == segmenter.save()
    for image, expected in zip(images, scores, strict=True):
        assert np.array_equal(segmenter.score([image])[0], expected)


def test_a_map_has_the_size_of_its_image(segmenter):
    image = np.repeat(draw_part(np.random.default_rng(1), 0)[0], 3, axis=1)
    found = segmenter.segment(image)
    assert found.classes.shape == found.probabilities.shape == (SIDE, 3 * SIDE)
    assert found.classes.dtype == np.uint8
    assert (found.probabilities >= 1 / 3).all()


def test_every_pixel_has_the_most_probable_class_of_the_scores_around_it():
    scores = np.zeros((3, 1, 4), np.float32)
    scores[0], scores[1, 0, 1], scores[2, 0, 3] = 0.5, 0.9, 0.6
    found = draw(scores, (1, 4, 3))
    assert found.classes.tolist() == [[0, 1, 0, 2]]
    assert found.probabilities.tolist() == [pytest.approx([0.5, 0.9, 0.5, 0.6])]
    wide = draw(scores, (2, 16, 3))
    assert wide.classes.tolist() == [[0] * 4 + [1] * 4 + [0] * 5 + [2] * 3] * 2


@pytest.mark.parametrize(
    ("shape", "classes", "size"),
    [
        ((100, 200, 3), 3, (200, 100)),
        ((1000, 4096), 3, (1024, 250)),
        ((1024, 1024), 128, (512, 512)),
        ((1, 8192), 2, (1024, 1)),
    ],
)
def test_the_crf_sees_an_image_as_large_as_can_be_afforded(shape, classes, size):
    assert find_refined_size(shape, classes) == size


def test_the_same_seed_gives_the_same_network_to_the_bit_whatever_the_global_seed():
    torch.manual_seed(1)
    first = train_on(draw_labelled(3), SHORT)
    torch.manual_seed(2)
    second = train_on(draw_labelled(3), SHORT)
    other = train_on(draw_labelled(3), replace(SHORT, seed=1))
    assert equal(tensors_of(first), tensors_of(second))
    assert not equal(tensors_of(first), tensors_of(other))


def test_few_pictures_are_learnt_from_more_often():
    steps = [count_epochs(EPOCHS, pictures, 8) * math.ceil(pictures / 8) for pictures in (20, 84, 330, 4000)]
    assert steps == [501, 506, 504, 6000]
    assert count_epochs(EPOCHS, 2, 8) == 500, "the most that can be asked for"


class Interrupted(Exception):
    pass


def count_saves(data, recipe):
    """Checkpoints of a whole training, and the tensors that it ends with."""
    saved = []
    return saved, tensors_of(train_on(data, recipe, Watch(save=saved.append)))


@pytest.mark.parametrize("place", [1, -3, -2, -1], ids=["classifier", "between", "segmenter", "last"])
def test_an_interrupted_training_goes_on_exactly_where_it_was(place):
    data = draw_labelled(3)
    saved, whole = count_saves(data, SHORT)
    phases = []
    watch = Watch(report=lambda phase, done, total, **metrics: phases.append((phase, done)), resume=saved[place])
    assert equal(tensors_of(train_on(data, SHORT, watch)), whole)
    learnt = [done for phase, done in phases if phase == "training the segmenter"]
    steps = 2 * 3  # epochs of 11 pictures, 4 a step
    assert learnt == list(range(1, steps + 1))[{1: 0, -3: 0, -2: 3, -1: 6}[place] :]
    assert any(phase == "looking for cues" for phase, _ in phases) == (place == 1), "no stage is done twice"


def test_every_stage_of_refined_goes_on_exactly_where_it_was():
    data, recipe, phases, saved = draw_labelled(3), replace(SHORT, engine=Engine.REFINED), [""], {}
    watch = Watch(
        report=lambda phase, *_, **__: phases.append(phase),
        save=lambda checkpoint: saved.setdefault(phases[-1], []).append(checkpoint),
    )
    whole = tensors_of(train_on(data, recipe, watch))
    evidence, spreading, last = "looking for evidence", "spreading over what is wide", "training the segmenter"
    assert {evidence, "looking for cues", spreading, last} <= set(saved)
    order = list(saved)
    for phase, checkpoints in saved.items():
        told = []
        again = Watch(report=lambda name, *_, told=told, **__: told.append(name), resume=checkpoints[0])
        assert equal(tensors_of(train_on(data, recipe, again)), whole)
        is_before = order.index(phase) <= order.index(evidence)
        assert (evidence in told, spreading in told) == (is_before, phase != last), phase


def test_a_body_that_starts_from_nothing_and_cues_come_from_one_classifier(monkeypatch):
    trained, phases = [], []
    train = training.train_classifier
    monkeypatch.setattr(training, "train_classifier", lambda *args, **named: trained.append(1) or train(*args, **named))
    watch = Watch(report=lambda phase, *_, **__: phases.append(phase))
    train_on(draw_labelled(3), replace(SHORT, engine=Engine.REFINED), watch)
    assert "looking for cues" in phases
    assert trained == [1]


@pytest.mark.parametrize("damage", ["torn", "other data", "other recipe"])
def test_a_checkpoint_that_does_not_fit_is_ignored(damage):
    data, recipe = draw_labelled(3, seed=8 if damage == "other data" else 0), SHORT
    if damage == "other recipe":
        recipe = replace(SHORT, absent_decay=0.5)
    saved, _ = count_saves(data, recipe)
    resume = saved[-1][:-9] if damage == "torn" else saved[-1]
    phases = []
    report = Watch(report=lambda phase, *steps, **metrics: phases.append(phase), resume=resume)
    train_on(draw_labelled(3), SHORT, report)
    assert "looking for cues" in phases


def test_a_report_that_cancels_stops_either_stage():
    for stage in ("looking for cues", "training the segmenter"):

        def cancel(phase, done, total, stage=stage, **metrics):
            if phase == stage:
                raise Interrupted

        with pytest.raises(Interrupted):
            train_on(draw_labelled(3), SHORT, Watch(report=cancel))


def test_what_somebody_drew_takes_the_place_of_the_cues(monkeypatch):
    seen = []
    monkeypatch.setattr(training, "train_sec", lambda network, data, recipe, watch: seen.append(data.seeds))
    data = draw_labelled(3)
    corner = np.full((SIDE, SIDE), UNKNOWN, np.uint8)
    corner[:16, :8], corner[32:] = 1, 0
    train_on(data, SHORT)
    train_on(replace(data, masks={2: corner}), SHORT)
    plain, drawn = seen
    assert [number for number in range(11) if not np.array_equal(plain[number], drawn[number])] == [2]
    assert np.argwhere(drawn[2] == 1).tolist() == [[0, 0], [1, 0]]
    assert np.flatnonzero((drawn[2] == 0).any(1)).tolist() == [4, 5, 6, 7]
    assert not (drawn[2] == 2).any()


@pytest.mark.parametrize("engine", list(Engine))
def test_a_stroke_is_a_seed_where_it_lies(monkeypatch, engine):
    seen = []
    learner = "train_sec" if engine is Engine.SEC else "train_refined"
    monkeypatch.setattr(training, learner, lambda network, data, *_: seen.append(data.seeds))
    data = draw_labelled(3)
    stroke = np.full((SIDE, SIDE), UNKNOWN, np.uint8)
    stroke[10, 2:30], stroke[50, 20:40] = data.mains[2] + 1, BACKGROUND  # each an eighth of a cell wide
    recipe = replace(SHORT, engine=engine)
    train_on(data, recipe)
    train_on(replace(data, trimaps={2: stroke}), recipe)
    plain, drawn = seen
    expected = plain.copy()
    expected[2, 1, :4], expected[2, 6, 2:5] = data.mains[2] + 1, BACKGROUND
    assert (expected != plain).any()
    known = np.ones_like(plain, bool) if engine is Engine.SEC else expected != plain  # REFINED learns from it, too
    assert np.array_equal(drawn[known], expected[known])


def test_a_training_that_goes_on_believes_strokes_and_asks_the_segmenter_for_the_rest(segmenter, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "train_sec", lambda network, data, recipe, watch: seen.append(data.seeds))
    data = draw_labelled(3)
    stroke = np.full((SIDE, SIDE), UNKNOWN, np.uint8)
    stroke[:8], stroke[56:] = data.mains[2] + 1, BACKGROUND
    train_on(replace(data, trimaps={2: stroke}), SHORT, base=segmenter)
    (drawn,) = seen
    expected = ask_for_seeds(segmenter, data, Watch().report)
    expected[2, 0], expected[2, 7] = data.mains[2] + 1, BACKGROUND
    assert np.array_equal(drawn, expected)


def test_a_checkpoint_of_other_strokes_is_ignored():
    data = draw_labelled(3)
    drawn = replace(data, trimaps={2: np.zeros((SIDE, SIDE), np.uint8)})
    assert fingerprint_training(data, SHORT, b"") != fingerprint_training(drawn, SHORT, b"")


def test_a_cell_is_what_most_of_what_is_known_of_it_says():
    inside, outside = np.zeros((4, 8), np.bool_), np.zeros((4, 8), np.bool_)
    inside[0, :3], outside[0, 3], outside[1, 2] = True, True, True
    assert fit_trimap(inside, outside, 2, 1).tolist() == [[2, UNKNOWN], [UNKNOWN] * 2]
    assert fit_trimap(inside, outside, 4, 0).tolist()[:2] == [[1, 1, UNKNOWN, UNKNOWN], [UNKNOWN, 0, UNKNOWN, UNKNOWN]]


def test_a_picture_without_objects_is_background_and_no_picture_has_cues_of_what_it_does_not_show(monkeypatch):
    seen = []
    monkeypatch.setattr(training, "train_sec", lambda network, data, recipe, watch: seen.append(data))
    train_on(draw_labelled(3), SHORT)
    (data,) = seen
    for present, seeds in zip(data.present, data.seeds, strict=True):
        labels = np.flatnonzero(present) + 1
        assert set(np.unique(seeds).tolist()) <= {BACKGROUND, UNKNOWN, *labels.tolist()}
        assert present.any() or (seeds == BACKGROUND).all()
        assert present.sum() != 1 or (seeds == labels[0]).any()


@pytest.mark.parametrize("engine", list(Engine))
def test_training_goes_on_from_what_a_segmenter_knows(engine):
    data, recipe = draw_labelled(8), replace(SHORT, engine=engine, epochs=1, learning_rate=1e-7)
    base = train_on(data)
    assert measure_ious(train_on(data, recipe, base=base)) == pytest.approx(measure_ious(base), abs=0.02)


def test_a_segmenter_says_where_pictures_show_their_labels_and_nothing_else():
    data = draw_labelled(4)
    seeds = ask_for_seeds(train_on(data), data, Watch().report)
    for present, own in zip(data.present, seeds, strict=True):
        assert set(np.unique(own).tolist()) - {BACKGROUND, UNKNOWN} == set((np.flatnonzero(present) + 1).tolist())


@pytest.mark.parametrize("engine", list(Engine))
def test_either_engine_makes_a_segmenter(engine):
    assert train_on(draw_labelled(2, both=0), replace(SHORT, epochs=1, engine=engine)).labels == LABELS


def test_a_mask_becomes_classes_with_doubt_at_its_outline():
    mask = np.zeros((8, 8), np.bool_)
    mask[:, :3] = mask[0, 3] = True
    drawn = fit_mask(mask, 4, 1, alone=True)
    assert drawn.tolist() == [[2, 2, 0, 0]] * 4
    mask[:, 2] = False
    mask[0, 2:4] = True
    assert fit_mask(mask, 4, 1, alone=True).tolist() == [[2, 2, 0, 0]] + [[2, 0, 0, 0]] * 3
    mask[0, 3] = False
    assert fit_mask(mask, 4, 1, alone=True).tolist() == [[2, UNKNOWN, 0, 0]] + [[2, 0, 0, 0]] * 3
    assert set(fit_mask(mask, 4, 0, alone=False).ravel().tolist()) == {1, UNKNOWN}
    assert fit_mask(mask, 16, 0, alone=True).sum() == 4 * mask.sum()


def test_a_coarse_cell_is_what_half_of_it_is_and_background_where_all_of_it_is():
    classes = np.zeros((4, 4), np.uint8)
    classes[:2, 0] = 1
    classes[0, 2] = 2
    classes[3, 3] = UNKNOWN
    assert shrink_classes(classes, 2, 2).tolist() == [[1, UNKNOWN], [0, UNKNOWN]]


def test_damaged_bytes_are_data_loss(segmenter):
    saved = segmenter.save()
    for damaged in (b"", saved[:-1], saved[: len(saved) // 2], b"\xff" * 64):
        with pytest.raises(DataLoss):
            Segmenter.load(damaged, CPU)


def test_a_backbone_of_timm_is_saved_and_read_again_and_keeps_what_lies_before_its_finest_map():
    network = build_segmentation_network("mobilenetv2_100", 2, input_size=64)
    assert network.pretrained
    assert not any("conv_stem" in name for name in network.pretrained)
    segmenter = Segmenter(network, LABELS, CPU)
    network.module.head.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    images = [draw_part(np.random.default_rng(seed), seed)[0] for seed in (0, 1)]
    scores = segmenter.score(images)
    assert scores.shape == (2, 3, 8, 8)
    assert scores[0].std() > 0.01
    again = Segmenter.load(segmenter.save(), CPU)
    assert np.array_equal(again.score(images[::-1])[::-1], scores)


def test_a_backbone_without_the_maps_is_refused_by_name():
    with pytest.raises(InvalidArgument) as refusal:
        build_segmentation_network("vit_tiny_patch16_224", 2, input_size=224)
    assert refusal.value.field == "backbone"


def test_a_single_kind_of_pictures_is_refused():
    data = draw_labelled(4, both=0)
    alone = replace(
        data, pictures=data.pictures[:4], present=data.present[:4], mains=data.mains[:4], groups=data.groups[:4]
    )
    with pytest.raises(InvalidArgument, match="two labels"):
        train_on(alone, SHORT)
