"""What a steady body makes of pictures, kept; and bodies whose normalisations are folded."""

import numpy as np
import pytest
import torch

from services.saliency.detection.model import ObjectDetector, detect_in_pictures
from services.saliency.detection.network import build_detection_network
from services.saliency.detection.objects import Wanted
from services.saliency.segmentation import features
from services.saliency.segmentation.features import Features, measure
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.network import SteadyBody, build_segmentation_network

SIDE, COUNT = 64, 5


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)


def open_features(pictures):
    network = build_segmentation_network("mobilenetv2_100", 2, input_size=SIDE, stride=4, local=True)
    measure(network.module.body, network.network, pictures)
    return network, Features(network.module.body, network.network, pictures)


@pytest.mark.parametrize("mirrored", [False, True])
def test_maps_are_those_of_the_body(pictures, mirrored):
    network, kept = open_features(pictures)
    wanted = network.module.body(network.feed(pictures[[3, 1], :, :: -1 if mirrored else 1].copy()))
    for _ in range(2):  # computed, and then kept
        told = kept.read(np.array([3, 1]), mirrored=mirrored)
        assert [each.shape for each in told] == [each.shape for each in wanted]
        for one, other in zip(told, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
    assert kept.widths == tuple(each.shape[1] for each in wanted)


def test_what_shares_a_batch_and_what_has_room_changes_nothing(pictures, monkeypatch):
    network, kept = open_features(pictures)
    everything = np.arange(COUNT)
    wanted = kept.read(everything, mirrored=False)
    later = Features(network.module.body, network.network, pictures)
    later.read(np.array([1, 4]), mirrored=False)
    later.read(np.array([2]), mirrored=True)
    monkeypatch.setattr(features, "MOST_KEPT_BYTES", 0)
    roomless = Features(network.module.body, network.network, pictures)
    for other in (later, roomless):
        told = other.read(everything, mirrored=False)
        assert all(torch.equal(one, two) for one, two in zip(told, wanted, strict=True))


def test_a_picture_is_computed_once_each_way(pictures, monkeypatch):
    _, kept = open_features(pictures)
    asked = []
    compute = kept._compute
    monkeypatch.setattr(kept, "_compute", lambda pictures: asked.append(len(pictures)) or compute(pictures))
    for _ in range(3):
        for mirrored in (False, True):
            kept.read(np.array([0, 2]), mirrored=mirrored)
    kept.read(np.array([0, 2, 4]), mirrored=True)
    assert asked == [2, 2, 1]


@pytest.mark.parametrize(
    ("backbone", "local"), [("mobilenetv2_100", True), ("mobilenetv2_100", False), ("small", False)]
)
def test_a_segmenter_answers_as_its_network_does(pictures, backbone, local):
    network = build_segmentation_network(backbone, 2, input_size=SIDE, stride=8, local=local)
    for name, each in network.module.named_buffers():  # as if it had learnt
        if name.endswith("running_var"):
            each.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
    network.module.head.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network.score(pictures).softmax(1).numpy()
    told = Segmenter(network, ("one", "two"), torch.device("cpu")).score(list(pictures))
    np.testing.assert_allclose(told, wanted, atol=1e-3)
    assert isinstance(network.module.body, SteadyBody) is local


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "small"])
def test_a_detector_answers_as_its_network_does(pictures, backbone):
    network = build_detection_network(backbone, 2, input_size=SIDE)
    for name, each in network.module.named_buffers():
        if name.endswith("running_var"):
            each.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
    head = network.module.head.classification_head.cls_logits
    head.weight.data.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    network.module.eval()
    wanted = detect_in_pictures(network, list(pictures))
    told = ObjectDetector(network, ("one", "two"), torch.device("cpu")).detect(list(pictures), Wanted(min_score=0.01))
    for found, objects in zip(wanted, told, strict=True):
        assert len(objects) > 0
        np.testing.assert_allclose([one.score for one in objects[:5]], found.scores[:5], atol=1e-3)
        np.testing.assert_allclose([one.box for one in objects[:5]], found.boxes[:5], atol=1)  # whole pixels
