from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from spots import SIDE, SPOT, draw

from services.runtime.errors import InvalidArgument
from services.saliency import explain
from services.saliency.backbones import build_network
from services.saliency.model import Classifier, Method, Question

PLACES = [(2, 2), (32, 2), (2, 32), (32, 32), (17, 17)]


def peak_of(heatmap):
    """Centre of the hottest cell, in pixels of the image."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return (column + 0.5) * SIDE / heatmap.shape[1], (row + 0.5) * SIDE / heatmap.shape[0]


OTHERS = [Question(method=method) for method in (Method.GRAD_CAM_PLUS_PLUS, Method.LAYER_CAM)]


@pytest.mark.parametrize(
    "question", [Question(), Question(method=Method.GRAD_CAM), Question(layer="stages.1"), *OTHERS]
)
def test_the_heat_lies_where_the_spot_is(classifier, question):
    near = 0
    for x, y in PLACES:
        (found,) = classifier.explain(
            [draw("stripes", x, y, seed=500)], Question("stripes", question.method, question.layer)
        )
        peak_x, peak_y = peak_of(found.heatmap)
        near += abs(peak_x - x - SPOT / 2) <= SPOT and abs(peak_y - y - SPOT / 2) <= SPOT
    assert near == len(PLACES)


def test_a_heatmap_covers_the_whole_image_whatever_its_shape(classifier):
    """The spot lies at the right end of an image three times as wide as high: so must the heat."""
    wide = np.random.default_rng(0).integers(60, 100, (SIDE, 3 * SIDE, 3), dtype=np.uint8)
    wide[:, 2 * SIDE :] = draw("stripes", 17, 17)
    (found,) = classifier.explain([wide], Question("stripes", heatmap_side=3 * SIDE))
    assert found.heatmap.shape == (SIDE, 3 * SIDE)
    assert found.heatmap.max(axis=0).argmax() > 2 * SIDE


def test_heat_is_between_zero_and_one_and_reaches_one(classifier):
    for side in (0, 3, 200):
        (found,) = classifier.explain([draw("stripes", 20, 20)], Question("stripes", heatmap_side=side))
        assert found.heatmap.dtype == np.float32
        assert found.heatmap.min() >= 0
        assert found.heatmap.max() == 1
        assert side == 0 or max(found.heatmap.shape) == side


def test_where_nothing_speaks_for_the_label_the_heat_is_zero():
    assert not explain.finish_heatmap(np.full((3, 3), -1, np.float32), (6, 6)).any()


@pytest.mark.parametrize("backbone", ["small", "resnet10t"])
def test_grad_cam_at_the_last_map_is_cam_up_to_a_positive_factor(backbone):
    network = build_network(backbone, 3, input_size=64)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(network.linear.weight, generator=generator)
    inputs, classes = torch.rand(3, 3, 64, 64, generator=generator), torch.tensor([0, 2, 1])
    features = explain.compute_features(network, inputs)
    cam = explain.compute_cam(network, features, classes)
    positions = features.shape[2] * features.shape[3]
    assert torch.allclose(explain.compute_map(network, features, classes) * positions, cam, rtol=1e-4, atol=1e-5)
    last = {"small": "stages.2", "resnet10t": "layer4"}[backbone]
    assert torch.allclose(
        explain.compute_map_at(network, inputs, classes, last)[0] * positions, cam, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("layer", ["stem", "stages.0", "stages.1.0", "stages.1.1", "stages.2"])
def test_grad_cam_at_a_layer_is_what_a_plain_backward_pass_gives(classifier, layer):
    """Against the textbook way with hooks, on a copy."""
    network = classifier.network
    inputs = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    copy = build_network("small", 2, input_size=SIDE).module
    copy.load_state_dict(network.module.state_dict())
    seen = {}
    copy.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.update(map=output))
    logits = copy(inputs)
    (gradient,) = torch.autograd.grad(logits[0, 1], seen["map"])
    expected = (gradient.mean((2, 3), keepdim=True) * seen["map"]).sum(1).detach()
    found, _ = explain.compute_map_at(network, inputs, torch.tensor([1]), layer)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("question", [Question(), Question(method=Method.GRAD_CAM), Question(layer="stages.0")])
def test_eight_threads_get_what_one_gets_to_the_bit(classifier, question):
    images = [draw("stripes" if index % 2 else "checks", index, 30 - index % 8, seed=index) for index in range(32)]
    torch.set_num_threads(1)
    alone = [classifier.explain([image], question)[0].heatmap for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: classifier.explain([image], question)[0].heatmap, images))
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    "question",
    [
        Question(),
        Question(layer="stages.1"),
        *(Question(method=method) for method in Method if method is not Method.CAM),
    ],
)
def test_what_shares_a_batch_changes_no_bit(classifier, question):
    images = [draw("stripes", 3 * index, 20, seed=index) for index in range(6)]
    batch = classifier.explain(images, question)
    for image, beside in zip(images, batch, strict=True):
        (alone,) = classifier.explain([image], question)
        assert (alone.heatmap == beside.heatmap).all()
        assert (alone.prediction.probabilities == beside.prediction.probabilities).all()


def test_short_batches_are_filled_up_and_cut_back(monkeypatch):
    """The way of accelerators, whose batch shape is more than one image."""
    monkeypatch.setattr(explain, "CUDA_BATCH", 4)
    seen = []

    def double(part):
        seen.append(part.shape)
        return part * 2

    meta = torch.ones(6, 3, device="meta")
    assert explain.run_in_fixed_batches(double, meta).shape == (6, 3)
    assert seen == [(4, 3), (4, 3)]


def test_explaining_leaves_no_trace_in_the_model(classifier):
    module = classifier.network.module
    before = {name: dict(part.__dict__) for name, part in module.named_modules()}
    for layer in ("", "stem", "stages.2"):
        classifier.explain([draw("checks", 5, 5)], Question(method=Method.GRAD_CAM, layer=layer))
    for name, part in module.named_modules():
        assert part.__dict__.keys() == before[name].keys()
        assert not part._forward_hooks
        assert not part._backward_hooks
        assert "forward" not in part.__dict__
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("layer", ["nowhere", "stages.9", "fc", "stages.0.conv"])
def test_a_layer_that_is_none_or_yields_no_map_is_refused_by_name(classifier, layer):
    with pytest.raises(InvalidArgument, match=layer) as refusal:
        classifier.explain([draw("checks", 5, 5)], Question(layer=layer))
    assert refusal.value.field == "layer"


def test_cam_is_refused_where_the_head_has_no_closed_form():
    network = build_network("mobilenetv3_small_050", 2, input_size=64)
    classifier = Classifier(network, ("a", "b"), torch.device("cpu"))
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(InvalidArgument) as refusal:
        classifier.explain([image], Question(method=Method.CAM))
    assert refusal.value.field == "method"
    assert classifier.explain([image], Question())[0].method is Method.GRAD_CAM


def test_an_in_place_layer_after_the_asked_one_does_not_spoil_it():
    """timm's ReLU overwrites its input: Grad-CAM before it must see values of both signs."""
    network = build_network("resnet10t", 2, input_size=64)
    torch.nn.init.normal_(network.linear.weight, generator=torch.Generator().manual_seed(0))
    inputs = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found, _ = explain.compute_map_at(network, inputs, torch.tensor([0]), "bn1")
    assert torch.isfinite(found).all()
    assert found.any()
