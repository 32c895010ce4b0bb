import numpy as np
import pytest
import torch
from spots import draw

from services.runtime.errors import DataLoss, InvalidArgument
from services.saliency import bundle
from services.saliency.model import Classifier, Method, Question, fit_heatmap

CPU = torch.device("cpu")


def test_a_loaded_classifier_answers_as_the_saved_one_to_the_bit(classifier):
    data = classifier.save()
    loaded = Classifier.load(data, CPU)
    image = draw("checks", 10, 20)
    (was,), (now,) = (one.explain([image], Question(heatmap_side=40)) for one in (classifier, loaded))
    assert now.prediction.labels == was.prediction.labels
    assert (now.prediction.probabilities == was.prediction.probabilities).all()
    assert (now.heatmap == was.heatmap).all()
    assert loaded.save() == data


def test_a_network_with_batch_statistics_is_saved_whole():
    from services.saliency.backbones import build_network

    network = build_network("resnet10t", 2, input_size=64)
    torch.nn.init.normal_(network.linear.weight, generator=torch.Generator().manual_seed(0))
    network.module.get_submodule("bn1").running_mean.fill_(0.25)
    classifier = Classifier(network, ("a", "b"), CPU)
    loaded = Classifier.load(classifier.save(), CPU)
    image = draw("checks", 10, 20)
    assert (loaded.classify([image])[0].probabilities == classifier.classify([image])[0].probabilities).all()


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-10], lambda data: b"\xff" * 64, lambda data: data[:8] + b"!" + data[9:]],
)
def test_damaged_bytes_are_data_loss(classifier, damage):
    with pytest.raises(DataLoss):
        Classifier.load(damage(classifier.save()), CPU)


def test_a_form_from_the_future_is_refused(classifier):
    tensors, about = bundle.unpack(classifier.save())
    with pytest.raises(DataLoss, match="format 3"):
        Classifier.load(bundle.pack(tensors, about | {"format": 3}), CPU)


def test_tensors_of_another_network_are_data_loss(classifier):
    tensors, about = bundle.unpack(classifier.save())
    del tensors["fc.bias"]
    with pytest.raises(DataLoss, match="small"):
        Classifier.load(bundle.pack(tensors, about), CPU)


def test_probabilities_add_up_to_one_and_are_ranked(classifier):
    for prediction in classifier.classify([draw("stripes", 9, 9), draw("checks", 9, 9)]):
        assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-6)
        scores = [score for _, score in prediction.ranking]
        assert scores == sorted(scores, reverse=True)
        assert {label for label, _ in prediction.ranking} == {"stripes", "checks"}


def test_images_of_any_size_and_kind_share_a_batch(classifier):
    grey = draw("stripes", 17, 17)[..., 0]
    spot = np.repeat(grey[..., None], 3, axis=2)
    kinds = [spot, grey, grey.astype(np.uint16) * 257, np.dstack([spot, np.full(grey.shape, 255, np.uint8)])]
    large = np.repeat(np.repeat(spot, 3, 0), 3, 1)
    answers = classifier.classify([*kinds, large])
    assert all((answer.probabilities == answers[0].probabilities).all() for answer in answers[1:4])
    assert answers[4].probabilities == pytest.approx(answers[0].probabilities, abs=1e-3)


def test_no_images_give_no_answers(classifier):
    assert classifier.classify([]) == []
    assert classifier.explain([], Question()) == []


def test_the_asked_label_is_explained_and_its_own_probability_told(classifier):
    image = draw("stripes", 17, 17)
    stripes, checks = (classifier.explain([image], Question(label))[0] for label in ("stripes", "checks"))
    assert (stripes.label, checks.label) == ("stripes", "checks")
    assert stripes.score > 0.5 > checks.score
    assert (stripes.heatmap != checks.heatmap).any()
    assert classifier.explain([image], Question())[0].label == "stripes"


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (Question("no such label"), "label"),
        (Question(heatmap_side=-1), "heatmap_side"),
        (Question(heatmap_side=4097), "heatmap_side"),
        (Question(method=Method.CAM, layer="stages.1"), "method"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_by_name(classifier, question, field):
    with pytest.raises(InvalidArgument) as refusal:
        classifier.explain([draw("stripes", 1, 1)], question)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("shape", "side", "size"),
    [((100, 200, 3), 50, (50, 25)), ((200, 100), 50, (25, 50)), ((5, 5), 0, None), ((1, 4000), 10, (10, 1))],
)
def test_a_heatmap_keeps_the_images_shape(shape, side, size):
    assert fit_heatmap(shape, side) == size


def test_parameters_are_frozen_once_a_classifier_stands(classifier):
    assert not any(parameter.requires_grad for parameter in classifier.network.module.parameters())
    assert not classifier.network.module.training
