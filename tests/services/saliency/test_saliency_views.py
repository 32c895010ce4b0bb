"""Several scales and mirror images, and normalisations folded into convolutions."""

import cv2
import numpy as np
import pytest
import torch
from spots import SIDE, draw

from services.runtime.errors import InvalidArgument
from services.saliency import explain
from services.saliency.backbones import build_network
from services.saliency.folding import fold_network
from services.saliency.model import Method, Question
from services.saliency.views import View, average_maps, list_views

IMAGE = draw("stripes", 30, 6)


def test_the_views_are_every_scale_and_its_mirror_image_and_none_comes_twice():
    assert list_views(224, (), flip=False) == (View(224),)
    assert list_views(224, (1.0, 2.0), flip=True) == (View(224), View(224, True), View(448), View(448, True))
    assert list_views(48, (1.0,), flip=False) == (View(48),)  # its own size, though it is off the step
    assert list_views(224, (1.0, 1.01), flip=False) == (View(224),)


@pytest.mark.parametrize("scales", [(0.0,), (-1.0,), (float("nan"),), (float("inf"),), (5.0,), (1.0,) * 6])
def test_scales_out_of_range_are_refused(scales):
    with pytest.raises(InvalidArgument) as refusal:
        list_views(224, scales, flip=False)
    assert refusal.value.field == "scales"


def test_an_average_counts_each_map_by_what_it_shows_and_not_by_how_loud_it_is():
    quiet, loud = np.array([[1.0, -5.0]], np.float32), np.array([[0.0, 100.0]], np.float32)
    assert np.allclose(average_maps([quiet, loud]), [[0.5, 0.5]])
    assert average_maps([quiet]) is quiet
    assert not average_maps([-loud, -loud]).any()


def test_an_average_lies_on_the_finest_grid():
    coarse, fine = np.eye(2, dtype=np.float32), np.eye(4, dtype=np.float32)
    expected = (cv2.resize(coarse, (4, 4), interpolation=cv2.INTER_LINEAR) + fine) / 2
    assert np.allclose(average_maps([coarse, fine]), expected)


@pytest.mark.parametrize("method", [Method.CAM, Method.GRAD_CAM])
@pytest.mark.parametrize("layer", ["", "stages.1"])
def test_views_are_those_of_scaled_and_mirrored_images_and_the_map_is_their_average(classifier, method, layer):
    method = Method.GRAD_CAM if layer else method
    question = Question("stripes", method, layer, scales=(1.0, 2.0), flip=True, with_views=True)
    (found,) = classifier.explain([IMAGE], question)
    (plain,) = classifier.explain([IMAGE], Question("stripes", method, layer))
    (mirrored,) = classifier.explain([IMAGE[:, ::-1]], Question("stripes", method, layer))
    assert len(found.views) == 4
    assert (found.views[0] == plain.heatmap).all()
    assert np.allclose(found.views[1], mirrored.heatmap[:, ::-1], atol=1e-6)
    assert found.views[2].shape[0] > found.views[0].shape[0]
    assert found.heatmap.shape == found.views[2].shape
    expected = average_maps(list(found.views))
    assert np.allclose(found.heatmap, expected / expected.max(), atol=1e-5)
    assert found.prediction.ranking == plain.prediction.ranking


def test_without_being_asked_for_views_are_not_told(classifier):
    (found,) = classifier.explain([IMAGE], Question(flip=True))
    assert found.views == ()


def test_the_label_is_that_of_the_plain_image_even_where_that_is_no_view(classifier):
    (found,) = classifier.explain([IMAGE], Question(scales=(2.0,), with_views=True))
    (plain,) = classifier.classify([IMAGE])
    assert found.label == plain.ranking[0][0]
    assert found.prediction.ranking == plain.ranking
    assert len(found.views) == 1


def test_what_shares_a_batch_changes_no_bit_of_an_average(classifier):
    images = [draw("stripes", 5 * index, 20, seed=index) for index in range(3)]
    question = Question(scales=(1.0, 1.5), flip=True)
    for image, beside in zip(images, classifier.explain(images, question), strict=True):
        assert (classifier.explain([image], question)[0].heatmap == beside.heatmap).all()


def test_a_mirror_symmetric_average_is_symmetric(classifier):
    half = draw("checks", 3, 20)[:, : SIDE // 2]
    (found,) = classifier.explain([np.concatenate([half, half[:, ::-1]], axis=1)], Question("checks", flip=True))
    assert np.allclose(found.heatmap, found.heatmap[:, ::-1], atol=1e-5)


def draw_network(backbone):
    """One whose normalisations do something, in numbers so fine that rounding cannot be taken for a difference."""
    network = build_network(backbone, 2, input_size=64)
    network.module.double()
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(network.linear.weight, generator=generator)
    for module in network.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
    return network


def list_norms(network):
    return [module for module in network.module.modules() if isinstance(module, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("backbone", ["resnet10t", "mobilenetv2_050", "mobilenetv3_small_050", "small"])
def test_folding_changes_nothing_but_rounding_and_leaves_the_network_alone(backbone):
    network = draw_network(backbone)
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    folded = fold_network(network)
    inputs = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = explain.compute_features(network, inputs)
    assert torch.allclose(explain.compute_features(folded.twin, inputs), plain, rtol=1e-9, atol=1e-9)
    assert all((tensor == before[name]).all() for name, tensor in network.module.state_dict().items())
    assert not list_norms(folded.twin)
    assert bool(list_norms(network)) == (backbone != "small")


def test_the_map_of_any_layer_is_that_of_the_plain_network():
    network = draw_network("resnet10t")
    folded = fold_network(network)
    inputs = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for layer in ("conv1.0", "bn1", "layer1.0.conv2", "layer1.0.bn2", "layer2", "layer4"):
        plain, _ = explain.compute_map_at(network, inputs, torch.tensor([1]), layer)
        found, _ = explain.compute_map_at(folded.having(layer), inputs, torch.tensor([1]), layer)
        assert plain.any()
        assert torch.allclose(found, plain, rtol=1e-9, atol=1e-9), layer
