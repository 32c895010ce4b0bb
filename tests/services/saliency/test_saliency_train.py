from dataclasses import replace

import numpy as np
import pytest
import torch
from spots import SIDE, SMALL, SPOT, draw, draw_set, train

from services.runtime.errors import Cancelled, InvalidArgument
from services.saliency import bundle
from services.saliency.head import Course, fit_head, tells_left_from_right, weigh_classes
from services.saliency.recipe import Recipe, TrainingSet, Watch


def tensors_of(training):
    return training.network.module.state_dict()


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_small_network_learns_two_textures(learnt):
    correct = [
        learnt.classifier.classify([draw(label, x, 20, seed=900 + x)])[0].ranking[0][0] == label
        for label in ("stripes", "checks")
        for x in (0, 10, 20, 30)
    ]
    assert sum(correct) >= 7


def test_ten_images_of_a_class_are_enough_to_train():
    training = train(draw_set(10))
    assert (training.train_count, training.validation_count) == (16, 4)
    assert training.best.accuracy >= 0.75


def test_the_epoch_with_the_best_validation_is_kept(learnt):
    training = learnt.training
    ranks = [SMALL.rank(epoch) for epoch in training.history]
    assert SMALL.rank(training.best) == max(ranks)
    assert training.best.number == ranks.index(max(ranks)) + 1


def test_a_training_that_goes_wrong_ends_with_the_network_of_its_best_epoch():
    saved = []
    wrecking = replace(SMALL, learning_rate=0.2, epochs=8)
    training = train(draw_set(10), wrecking, Watch(save=saved.append))
    assert training.best.number < len(training.history) == len(saved)
    of_best, _ = bundle.unpack(saved[training.best.number - 1])
    of_last, _ = bundle.unpack(saved[-1])
    kept = {name: tensor for name, tensor in tensors_of(training).items() if not name.startswith("fc.")}
    assert all(torch.equal(kept[name], of_best[f"current:{name}"]) for name in kept)
    assert not all(torch.equal(kept[name], of_last[f"current:{name}"]) for name in kept)


def test_the_same_seed_gives_the_same_network_to_the_bit_whatever_the_global_seed():
    recipe = replace(SMALL, epochs=2)
    torch.manual_seed(4)
    first = tensors_of(train(draw_set(6), recipe))
    torch.manual_seed(5)
    assert equal(first, tensors_of(train(draw_set(6), recipe)))
    assert not equal(first, tensors_of(train(draw_set(6), replace(recipe, seed=1))))


class Interrupted(Exception):
    pass


def interrupt_at(wanted):
    def report(phase, done, total, **metrics):
        if (phase, done) == wanted:
            raise Interrupted

    return report


@pytest.mark.parametrize("done", [3, 7])
def test_an_interrupted_training_goes_on_exactly_where_it_was(done):
    recipe, saved, data = replace(SMALL, epochs=4), [], draw_set(8)
    whole = train(data, recipe)
    with pytest.raises(Interrupted):
        train(data, recipe, Watch(report=interrupt_at(("training the network", done)), save=saved.append))
    resumed = train(data, recipe, Watch(resume=saved[-1]))
    assert resumed.history == whole.history
    assert equal(tensors_of(resumed), tensors_of(whole))


def test_a_training_that_gets_no_better_ends_early_and_stays_ended():
    recipe, saved, data = replace(SMALL, epochs=40, learning_rate=1.0), [], draw_set(6)
    training = train(data, recipe, Watch(save=saved.append))
    assert len(training.history) == training.best.number + 10 < 40  # a quarter of all
    phases = []
    again = train(data, recipe, Watch(report=lambda phase, *_, **__: phases.append(phase), resume=saved[-1]))
    assert again.history == training.history
    assert "training the network" not in phases


def test_a_resumed_training_does_not_repeat_epochs():
    recipe, saved, data, phases = replace(SMALL, epochs=3), [], draw_set(6), []
    train(data, recipe, Watch(save=saved.append))
    train(data, recipe, Watch(report=lambda phase, *_, **__: phases.append(phase), resume=saved[-1]))
    assert set(phases) == {"looking at all images once more"}


@pytest.mark.parametrize("damage", ["other data", "torn"])
def test_a_checkpoint_that_does_not_fit_is_ignored(damage):
    recipe, saved = replace(SMALL, epochs=2), []
    train(draw_set(6, seed=9 if damage == "other data" else 0), recipe, Watch(save=saved.append))
    checkpoint = saved[-1][:100] if damage == "torn" else saved[-1]
    fresh, resumed = train(draw_set(6), recipe), train(draw_set(6), recipe, Watch(resume=checkpoint))
    assert equal(tensors_of(fresh), tensors_of(resumed))


def test_progress_is_reported_and_never_runs_backwards():
    reports = []
    train(draw_set(6), replace(SMALL, epochs=3), Watch(report=lambda *step, **figures: reports.append((step, figures))))
    steps = [step for step, _ in reports if step[0] == "training the network"]
    assert [done for _, done, _ in steps] == list(range(1, steps[-1][2] + 1))
    learning = [told for step, told in reports if step in steps]
    assert {"validation_loss", "validation_accuracy", "best_accuracy"} == set(learning[-1])
    (phase, done, total), _ = reports[-1]
    assert (phase, done) == ("looking at all images once more", total)


def test_a_report_that_cancels_stops_the_training():
    def cancel(phase, done, total, **metrics):
        raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        train(draw_set(4), SMALL, Watch(report=cancel))


def test_one_label_alone_is_refused_and_named():
    data = draw_set(5)
    with pytest.raises(InvalidArgument, match="'stripes' \\(10 images\\)") as refusal:
        train(replace(data, labels=("stripes",) * 10))
    assert refusal.value.field == "items"


def test_a_label_with_one_image_is_refused_and_named():
    data = draw_set(3)
    with pytest.raises(InvalidArgument, match="'rare' has one"):
        train(replace(data, labels=("stripes", "stripes", "stripes", "checks", "checks", "rare")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 501),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("batch_size", 0),
        ("batch_size", 257),
        ("validation_fraction", 0.04),
        ("validation_fraction", 0.51),
    ],
)
def test_a_recipe_outside_its_limits_is_refused_by_name(field, value):
    with pytest.raises(InvalidArgument) as refusal:
        Recipe(**{field: value})
    assert refusal.value.field == field


def test_groups_decide_the_split_where_there_are_some():
    assert train(draw_set(10, groups=5), replace(SMALL, epochs=1)).split_by == "group"
    assert train(draw_set(10), replace(SMALL, epochs=1)).split_by == "look_alikes"


def test_a_rare_label_weighs_as_much_as_a_common_one():
    classes = torch.tensor([0] * 9 + [1])
    weights = weigh_classes(classes, 2)
    assert torch.allclose(weights * torch.bincount(classes), torch.tensor([5.0, 5.0]))


def test_labels_that_tell_left_from_right_are_not_mirrored():
    places = {"left": 2, "right": SIDE - SPOT - 2}
    labels = tuple(label for label in places for _ in range(10))
    pictures = np.stack([draw("stripes", places[label], 2 + index % 10, index) for index, label in enumerate(labels)])
    data = TrainingSet(pictures, labels, ("",) * 20)
    assert not train(data, replace(SMALL, epochs=1)).mirrored
    assert train(draw_set(10), replace(SMALL, epochs=1)).mirrored


def test_a_head_finds_the_feature_that_tells():
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % 3
    features = torch.rand(60, 20, generator=generator) + 3 * torch.nn.functional.one_hot(classes, 20)
    *_, head = fit_head(features, classes, Course(20, 0.01, 8, torch.ones(3)), generator)
    assert (head.score(features).argmax(1) == classes).all()
    assert head.weight[:, :3].argmax(1).tolist() == [0, 1, 2]


def test_what_all_labels_share_is_taken_out_of_the_last_layer(learnt):
    """The softmax does not see it, but a CAM would show it."""
    linear = learnt.training.network.linear
    assert torch.allclose(linear.weight.sum(0), torch.zeros(96), atol=1e-5)
    assert linear.weight.abs().sum() > 1


def test_mirrored_features_of_another_label_are_noticed():
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(40) % 2
    plain = torch.rand(40, 6, generator=generator) + 2 * torch.nn.functional.one_hot(classes, 6)
    swapped = plain[:, [1, 0, 2, 3, 4, 5]]
    assert tells_left_from_right(plain, swapped, classes)
    assert not tells_left_from_right(plain, plain.roll(2, 0), classes)  # another image, but of the same label


def test_a_pretrained_backbone_learns_head_first_and_then_its_deeper_half():
    saved, phases, data = [], [], draw_set(4)
    recipe = Recipe(backbone="resnet10t", epochs=3, batch_size=4)
    watch = Watch(report=lambda phase, *_, **__: phases.append(phase), save=saved.append)
    training = train(data, recipe, watch)
    assert list(dict.fromkeys(phases)) == [
        "looking for look-alikes",
        "computing features",
        "training the last layer",
        "training the network",
        "looking at all images once more",
    ]
    assert len(training.history) == 3
    learnt_tensors, _ = bundle.unpack(saved[-1])
    assert "current:layer4.0.conv1.weight" in learnt_tensors
    assert "current:layer1.0.conv1.weight" not in learnt_tensors
    resumed = train(data, recipe, Watch(resume=saved[0]))
    assert len(resumed.history) == 3
