"""The recipe of old."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from spots import SIDE, draw, draw_set, train

from services.saliency import bundle, original
from services.saliency.model import Classifier, Question
from services.saliency.original import draw_crop
from services.saliency.pictures import cut_centre
from services.saliency.recipe import Recipe, RecipeName, TrainingSet, Watch, find_recipe
from services.saliency.small import SmallNetwork

CPU = torch.device("cpu")
ORIGINAL = replace(find_recipe(RecipeName.ORIGINAL), backbone="small", epochs=3)


def equal(first, second):
    first, second = (training.network.module.state_dict() for training in (first, second))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_recipe_is_that_of_the_origin():
    recipe = find_recipe(RecipeName.ORIGINAL)
    assert (recipe.backbone, recipe.rounds, recipe.learning_rate, recipe.batch_size) == ("vgg16", 25, 0.001, 4)
    assert recipe.find_stored_size(224) == 256
    assert all(recipe.find_input_size(recipe.find_stored_size(size)) == size for size in range(32, 1025, 32))


@pytest.mark.parametrize("backbone", ["small", "resnet10t"])
def test_an_interrupted_training_of_old_goes_on_exactly_where_it_was(backbone):
    recipe, saved, data = replace(ORIGINAL, backbone=backbone), [], draw_set(6)
    whole = train(data, recipe, Watch(save=saved.append))
    resumed = train(data, recipe, Watch(resume=saved[0]))
    assert resumed.history == whole.history
    assert equal(resumed, whole)


def test_all_layers_learn_and_batch_statistics_follow():
    saved = []
    train(draw_set(6), replace(ORIGINAL, backbone="resnet10t", epochs=2), Watch(save=saved.append))
    (first, _), (second, _) = bundle.unpack(saved[0]), bundle.unpack(saved[1])
    for name in ("conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight", "bn1.running_mean", "fc.weight"):
        assert not torch.equal(first[f"current:{name}"], second[f"current:{name}"]), name


def test_half_of_vggs_classifier_is_dropped_and_of_nothing_else():
    for backbone, share in (("vgg16", 0.5), ("resnet10t", 0.0)):
        network = SimpleNamespace(backbone=backbone, module=torch.nn.Sequential(torch.nn.Dropout(0.0)))
        original._prepare_to_learn(SimpleNamespace(network=network))
        assert network.module.training
        assert network.module[0].p == share


def test_what_is_dropped_depends_on_the_seed_alone(monkeypatch):
    def drop(self, features, *, pre_logits=False):
        pooled = torch.nn.functional.dropout(features.mean((2, 3)), 0.5, self.training)
        return pooled if pre_logits else self.fc(pooled)

    monkeypatch.setattr(SmallNetwork, "forward_head", drop)
    recipe, data = replace(ORIGINAL, epochs=2), draw_set(4)
    torch.manual_seed(1)
    first = train(data, recipe)
    torch.manual_seed(2)
    assert equal(first, train(data, recipe))


def test_the_rate_falls_to_a_tenth_every_seven_epochs(monkeypatch):
    rates = []

    class Noted(torch.optim.SGD):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "SGD", Noted)
    train(draw_set(3), replace(ORIGINAL, epochs=15, batch_size=256))
    assert rates == pytest.approx([0.001] * 7 + [0.0001] * 7 + [0.00001])


def test_the_epoch_with_the_best_accuracy_is_kept_the_earliest_of_equals():
    training = train(draw_set(8), replace(ORIGINAL, epochs=6))
    accuracies = [epoch.accuracy for epoch in training.history]
    assert training.best.number == accuracies.index(max(accuracies)) + 1
    assert len(training.history) == 6


def test_of_an_image_the_middle_is_cut_out_in_its_own_shape():
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    squeezed = np.zeros((64, 64, 3), np.uint8)
    squeezed[:, 64 // 3 + 1 : 2 * 64 // 3] = 200
    assert (cut_centre(squeezed, 3.0, 56) == 200).mean() > 0.9
    numbered = np.arange(64 * 64, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 1).repeat(3, 2)
    assert (cut_centre(numbered, 1.0, 56) == numbered[4:60, 4:60]).all()


def test_crops_are_those_of_a_random_resized_crop():
    generator = torch.Generator().manual_seed(0)
    for aspect in (0.2, 1.0, 3.0):
        crops = np.array([draw_crop(aspect, generator) for _ in range(500)])
        assert (crops <= 1).all()
        shapes = crops[:, 0] * aspect / crops[:, 1]
        assert shapes.min() >= 0.75 - 1e-6
        assert shapes.max() <= 4 / 3 + 1e-6
        assert crops.prod(1).min() >= 0.08 - 1e-6
    assert crops.prod(1).max() < 0.5  # of a wide image no crop of a fair shape takes more


def test_serving_looks_at_the_middle_as_the_validation_did():
    data = draw_set(6)
    wide = TrainingSet(data.pictures, data.labels, data.groups, tuple(map(str, range(12))), (2.0,) * 12)
    training = train(wide, ORIGINAL)
    classifier = Classifier(training.network, training.labels, CPU, training.calibration)
    assert training.network.input_format.centre_of == SIDE
    assert training.network.input_format.size == 42
    image = np.repeat(draw("stripes", 20, 20), 2, axis=1)  # twice as wide as high
    changed = image.copy()
    changed[:, : SIDE // 2 - 1] = 0  # the left quarter: outside the square in the middle
    first, second = classifier.classify([image, changed])
    assert (first.probabilities == second.probabilities).all()
    changed[:, SIDE - 4 : SIDE + 4] = 0
    assert (first.probabilities != classifier.classify([changed])[0].probabilities).any()
    again = Classifier.load(classifier.save(), CPU)
    assert (again.classify([image])[0].probabilities == first.probabilities).all()


def test_a_heat_map_of_it_covers_the_whole_image_and_tells_the_same_label():
    training = train(draw_set(6), ORIGINAL)
    classifier = Classifier(training.network, training.labels, CPU, training.calibration)
    image = draw("stripes", 17, 17)
    (found,) = classifier.explain([image], Question(heatmap_side=SIDE))
    (said,) = classifier.classify([image])
    assert found.heatmap.shape == (SIDE, SIDE)
    assert (found.prediction.probabilities == said.probabilities).all()


def test_recipes_with_the_same_fields_are_not_taken_for_each_other():
    saved, data = [], draw_set(4)
    recipe = Recipe(backbone="small", epochs=2, batch_size=4)
    train(data, recipe, Watch(save=saved.append))
    other = replace(recipe, name=RecipeName.ORIGINAL)
    assert equal(train(data, other), train(data, other, Watch(resume=saved[-1])))
