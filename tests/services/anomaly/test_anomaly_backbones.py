import pytest
import safetensors.torch
import torch

from services.anomaly.backbones import hub_repo, open_backbone
from services.runtime.errors import DataLoss, FailedPrecondition, InvalidArgument

IMAGE = torch.zeros(1, 3, 64, 96)


@pytest.mark.parametrize("name", ["small", "mobilenetv2_100", "resnet18"])
def test_maps_have_strides_8_16_and_32_and_the_channels_promised(name):
    backbone = open_backbone(name, None)
    with torch.inference_mode():
        fine, coarse = backbone.levels(IMAGE)
        last = backbone.features(IMAGE)
    assert (fine.shape[2:], coarse.shape[2:]) == ((8, 12), (4, 6))
    assert fine.shape[1] + coarse.shape[1] == backbone.level_channels
    assert last.shape == (1, backbone.channels, 2, 3)


def vary_statistics(network):
    """As after training: normalisation that does something."""
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "efficientnet_b0", "resnet18", "tf_efficientnet_lite0"])
def test_a_frozen_network_sees_what_it_saw_before_and_the_other_is_untouched(name):
    backbone = open_backbone(name, None)
    vary_statistics(backbone.module())
    before = {key: value.clone() for key, value in backbone.module().state_dict().items()}
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    frozen = backbone.freeze()
    assert frozen is not backbone
    with torch.inference_mode():
        pairs = list(zip(backbone.levels(image), frozen.levels(image), strict=True))
        again = frozen.levels(image)
    for level, folded in pairs:
        torch.testing.assert_close(level, folded, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(folded, twice) for (_, folded), twice in zip(pairs, again, strict=True))
    assert all(torch.equal(before[key], value) for key, value in backbone.module().state_dict().items())


def test_a_frozen_network_gives_the_same_bits_with_any_number_of_threads():
    frozen = open_backbone("mobilenetv2_100", None).freeze()
    image = torch.randn(1, 3, 224, 320, generator=torch.Generator().manual_seed(1))
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                found.append(torch.cat([level.flatten() for level in frozen.levels(image)]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_network_that_folding_would_change_stays_as_it_is(monkeypatch):
    monkeypatch.setattr("services.anomaly.pretrained.fold", lambda _: open_backbone("resnet18", None, seed=8).module())
    backbone = open_backbone("resnet18", None)
    assert backbone.freeze() is backbone


def test_the_same_seed_gives_the_same_small_network():
    def weigh(seed):
        return next(iter(open_backbone("small", None, seed).module().state_dict().values()))

    assert torch.equal(weigh(3), weigh(3))
    assert not torch.equal(weigh(3), weigh(4))


def test_opening_a_network_leaves_the_global_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    open_backbone("small", None, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"conv_stem.weight": torch.zeros(8, 3, 3, 3)}, path)
    with pytest.raises(FailedPrecondition, match="does not fit mobilenetv2_100") as refusal:
        open_backbone("mobilenetv2_100", path)
    assert refusal.value.reason == "WEIGHTS_MISMATCH"


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"pickle, perhaps")
    with pytest.raises(DataLoss, match="no safetensors file"):
        open_backbone("mobilenetv2_100", path)


def test_weights_with_a_classifier_fit(tmp_path):
    path = tmp_path / "full.safetensors"
    state = open_backbone("mobilenetv2_100", None, seed=5).module().state_dict()
    given = {name: tensor.contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(given | {"classifier.weight": torch.zeros(1000, 1280)}, path)
    read = open_backbone("mobilenetv2_100", path).module().state_dict()
    assert torch.equal(read["conv_stem.weight"], given["conv_stem.weight"])


def test_an_unknown_network_is_refused_and_a_known_one_names_its_repository():
    with pytest.raises(InvalidArgument, match="no_such_net"):
        hub_repo("no_such_net")
    assert hub_repo("small") is None
    assert hub_repo("mobilenetv2_100") == "timm/mobilenetv2_100.ra_in1k"


def test_the_real_weights_fit(real_data):
    path = real_data("weights") / "mobilenetv2_100.imagenet-features.safetensors"
    with torch.inference_mode():
        (fine, _) = open_backbone("mobilenetv2_100", path).levels(IMAGE)
    assert fine.std() > 0.1
