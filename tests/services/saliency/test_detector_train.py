"""A detector learns from single things, and finds many."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import LABELS, SIDE, SMALL, draw_scene, draw_singles, measure, train_on

from services.runtime.errors import DataLoss, FailedPrecondition, InvalidArgument
from services.saliency.detection.model import ObjectDetector
from services.saliency.detection.network import build_detection_network
from services.saliency.detection.objects import Wanted
from services.saliency.detection.recipe import Recipe
from services.saliency.recipe import Watch

CPU = torch.device("cpu")
SHORT = replace(SMALL, epochs=3)


@pytest.fixture(scope="module")
def training():
    return train_on(draw_singles(24))


def tensors_of(training):
    return training.detector.network.module.state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_what_learnt_from_single_things_finds_many(training):
    precision = measure(training.detector.network)
    assert precision.mean_50 > 0.7
    assert precision.mean > 0.3


def test_the_epoch_with_the_best_precision_is_kept(training):
    best = max(epoch.mean_average_precision for epoch in training.history)
    assert training.best.mean_average_precision == best
    assert [epoch.number for epoch in training.history] == list(range(1, 51))
    assert (training.train_count, training.validation_count, training.split_by) == (20, 6, "image")
    assert training.box_count == 19


def test_a_saved_detector_answers_as_before_to_the_bit(training):
    images = [draw_scene(np.random.default_rng(seed), 3)[0] for seed in range(4)]
    images += [np.repeat(images[0], 3, axis=1), images[1][..., 0].astype(np.uint16) * 257]
    detector = training.detector
    again = ObjectDetector.load(detector.save(), CPU)
    answers = detector.detect(images, Wanted())
    assert again.detect(images, Wanted()) == answers
    assert again.save() == detector.save()
    assert answers == [detector.detect([image], Wanted())[0] for image in images]


def test_objects_are_told_surest_first_in_pixels_of_the_image(training):
    pixels, boxes, classes = draw_scene(np.random.default_rng(1), 3)
    wide = np.full((SIDE * 2, SIDE * 4, 3), 105, np.uint8)
    wide[:, : SIDE * 2] = pixels.repeat(2, axis=0).repeat(2, axis=1)
    (found,) = training.detector.detect([wide[:, : SIDE * 2]], Wanted())
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert {one.label for one in found} == {LABELS[kind] for kind in classes}
    for box in boxes * 2:
        assert min(np.abs(np.array(one.box) - box).max() for one in found) <= 10
    assert len(training.detector.detect([wide[:, : SIDE * 2]], Wanted(0.01, 2))[0]) == 2
    assert training.detector.detect([wide[:, : SIDE * 2]], Wanted(1.0)) == [[]]


def test_the_same_seed_gives_the_same_network_to_the_bit_whatever_the_global_seed():
    torch.manual_seed(1)
    first = train_on(draw_singles(6), SHORT)
    torch.manual_seed(2)
    second = train_on(draw_singles(6), SHORT)
    other = train_on(draw_singles(6), replace(SHORT, seed=1))
    assert equal(tensors_of(first), tensors_of(second))
    assert not equal(tensors_of(first), tensors_of(other))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_training_goes_on_exactly_where_it_was(epochs):
    saved, seen = [], []

    def save(data):
        saved.append(data)
        if len(saved) == epochs:
            raise Interrupted

    whole = train_on(draw_singles(6), SHORT)
    with pytest.raises(Interrupted):
        train_on(draw_singles(6), SHORT, Watch(save=save))
    watch = Watch(report=lambda phase, done, total, **metrics: seen.append(done), resume=saved[-1])
    resumed = train_on(draw_singles(6), SHORT, watch)
    assert equal(tensors_of(whole), tensors_of(resumed))
    assert resumed.history == whole.history
    assert seen[0] == epochs * seen[-1] // 3 + 1, "no step is done a second time"


@pytest.mark.parametrize("damage", ["torn", "other data", "other recipe"])
def test_a_checkpoint_that_does_not_fit_is_ignored(damage):
    saved = []
    data, recipe = draw_singles(6), SHORT
    if damage == "other data":
        data = draw_singles(6, seed=8)
    if damage == "other recipe":
        recipe = replace(SHORT, learning_rate=0.001)
    train_on(data, recipe, Watch(save=saved.append))
    resume = saved[0][:-9] if damage == "torn" else saved[0]
    resumed = train_on(draw_singles(6), SHORT, Watch(resume=resume))
    assert equal(tensors_of(resumed), tensors_of(train_on(draw_singles(6), SHORT)))


def test_a_report_that_cancels_stops_the_training():
    def cancel(phase, done, total, **metrics):
        raise Interrupted

    with pytest.raises(Interrupted):
        train_on(draw_singles(6), SHORT, Watch(report=cancel))


def test_progress_comes_with_figures_and_never_runs_backwards():
    seen = []
    train_on(draw_singles(6), SHORT, Watch(report=lambda *steps, **metrics: seen.append((steps, metrics))))
    assert [done for (_, done, _), _ in seen] == list(range(1, len(seen) + 1))
    assert {total for (_, _, total), _ in seen} == {len(seen)}
    assert set(seen[0][1]) == {"loss"}
    assert {"mean_average_precision", "mean_average_precision_50", "best_mean_average_precision"} <= set(seen[-1][1])


def test_one_item_with_boxes_is_refused():
    with pytest.raises(InvalidArgument, match="hold 1"):
        train_on(draw_singles(1), SHORT)


def test_groups_decide_what_is_held_out():
    data = dataclasses.replace(draw_singles(10), groups=tuple(f"day-{number % 4}" for number in range(12)))
    assert train_on(data, replace(SHORT, epochs=1)).split_by == "group"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 501),
        ("batch_size", 0),
        ("batch_size", 65),
        ("learning_rate", 0.0),
        ("learning_rate", 0.2),
        ("validation_fraction", 0.6),
        ("scene_share", 1.1),
        ("scene_share", float("nan")),
    ],
)
def test_a_recipe_outside_its_limits_is_refused_by_name(field, value):
    with pytest.raises(InvalidArgument) as refusal:
        Recipe(**{field: value})
    assert refusal.value.field == field


def test_a_training_is_as_long_for_many_items_as_for_few():
    assert Recipe().count_rounds(800) * 800 == Recipe().count_rounds(100) * 100 == 4000
    assert (Recipe().count_rounds(10), Recipe().count_rounds(50_000), Recipe(epochs=3).count_rounds(10)) == (100, 4, 3)


def test_damaged_bytes_are_data_loss(training):
    saved = training.detector.save()
    for damaged in (b"", saved[:-1], saved[: len(saved) // 2], b"\xff" * 64):
        with pytest.raises(DataLoss):
            ObjectDetector.load(damaged, CPU)


def test_a_pretrained_backbone_keeps_what_lies_before_its_middle():
    network = build_detection_network("mobilenetv2_100", 2, input_size=64)
    assert network.pretrained
    assert not any(
        parameter.requires_grad for name, parameter in network.module.named_parameters() if "conv_stem" in name
    )
    assert all(".blocks." in name for name in network.pretrained)
    assert not any("conv_head" in name or "classifier" in name for name in network.module.state_dict())
    target = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}
    losses = network.compute_losses(torch.rand(1, 3, 64, 64), [target])
    sum(losses.values()).backward()
    lacking = [name for name, one in (network.fresh | network.pretrained).items() if one.grad is None]
    assert lacking == []


def test_weights_of_another_network_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "wrong.safetensors")
    with pytest.raises(FailedPrecondition) as refusal:
        build_detection_network("mobilenetv2_100", 2, input_size=64, weights=tmp_path / "wrong.safetensors")
    assert refusal.value.reason == "WEIGHTS_MISMATCH"


def test_a_backbone_without_the_maps_is_refused_by_name():
    with pytest.raises(InvalidArgument) as refusal:
        build_detection_network("vit_tiny_patch16_224", 2, input_size=224)
    assert refusal.value.field == "backbone"
