import pytest
import torch
from safetensors.torch import save_file

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.saliency.backbones import build_network, hub_repo

TINY = "resnet10t"  # the quickest to build of timm's


def plain_tensors(network):
    """As a published file holds them."""
    return {name: tensor.contiguous() for name, tensor in network.module.state_dict().items()}


def test_the_hub_name_is_timms_own():
    assert hub_repo("mobilenetv2_100") == "timm/mobilenetv2_100.ra_in1k"
    assert hub_repo("small") == ""


@pytest.mark.parametrize("name", ["mobilenet", "../etc/passwd", ""])
def test_an_unknown_backbone_is_refused(name):
    with pytest.raises(InvalidArgument) as refusal:
        hub_repo(name)
    assert refusal.value.field == "backbone"


def test_a_transformer_is_refused_because_it_has_no_map():
    with pytest.raises(InvalidArgument, match="no convolutional network"):
        build_network("vit_tiny_patch16_224", 2)


@pytest.mark.parametrize(("backbone", "cam_ready"), [(TINY, True), ("small", True), ("mobilenetv3_small_050", False)])
def test_cam_is_offered_only_where_the_head_is_a_mean_and_a_linear_layer(backbone, cam_ready):
    assert build_network(backbone, 3, input_size=64).cam_ready is cam_ready


def test_weights_may_lack_nothing_but_the_last_layer(tmp_path):
    network = build_network(TINY, 2, input_size=64)
    tensors = plain_tensors(network)
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "body.safetensors")
    loaded = build_network(TINY, 5, input_size=64, weights=tmp_path / "body.safetensors").module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in body.items())

    lost = body.pop("layer1.0.conv1.weight")
    save_file(body, tmp_path / "torn.safetensors")
    with pytest.raises(FailedPrecondition, match=r"lacks 1 tensors \(layer1.0.conv1.weight\)") as refusal:
        build_network(TINY, 5, weights=tmp_path / "torn.safetensors")
    assert refusal.value.reason == "WEIGHTS_MISMATCH"

    save_file(body | {"layer1.0.conv1.weight": lost[:1].clone()}, tmp_path / "shape.safetensors")
    with pytest.raises(FailedPrecondition, match="another shape"):
        build_network(TINY, 5, weights=tmp_path / "shape.safetensors")


def test_a_published_file_with_its_own_last_layer_is_accepted(tmp_path):
    published = plain_tensors(build_network(TINY, 1000, input_size=64))
    save_file(published, tmp_path / "published.safetensors")
    network = build_network(TINY, 3, input_size=64, weights=tmp_path / "published.safetensors")
    assert network.linear.weight.shape == (3, 512)
    assert not network.linear.weight.any()


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04not tensors at all")
    with pytest.raises(FailedPrecondition, match="no readable safetensors"):
        build_network("small", 2, weights=tmp_path / "pickle.safetensors")


def test_building_the_small_network_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = build_network("small", 2, seed=1).module.state_dict()
    torch.rand(3)
    second = build_network("small", 2, seed=1).module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert before.shape == torch.random.get_rng_state().shape


@pytest.mark.parametrize("size", [16, 2048, -1])
def test_an_input_size_outside_the_limits_is_refused(size):
    with pytest.raises(InvalidArgument, match=str(size)):
        build_network("small", 2, input_size=size)
