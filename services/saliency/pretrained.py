"""Networks of timm. Apart from `backbones.py`, because timm takes seconds and 200 MB to import."""

from pathlib import Path

import timm
import torch
from timm.data.config import resolve_data_config
from torch import nn

from services.runtime.errors import InvalidArgument
from services.saliency.network import InputFormat, Network, blank_layer, load_weights

DEFAULT_INPUT_SIZE = 224  # pixels, where timm does not say


def find_hub_repo(backbone: str) -> str:
    """Name the hub's repository, as timm's own table does. Raises InvalidArgument where there is none."""
    _refuse_unknown(backbone)
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.hf_hub_id:
        raise InvalidArgument("backbone", f"{backbone!r} has no published weights")
    return str(config.hf_hub_id)


def find_timm_input_size(backbone: str) -> int:
    """Tell the side of the square that a backbone was made for, pixels. Raises InvalidArgument for an unknown one."""
    _refuse_unknown(backbone)
    config = timm.get_pretrained_cfg(backbone)
    return int(config.input_size[1]) if config is not None else DEFAULT_INPUT_SIZE


def _refuse_unknown(backbone: str) -> None:
    if not timm.is_model(backbone):
        near = ", ".join(timm.list_models(f"*{backbone[:6]}*")[:5])
        known = f"; near it: {near}" if near else ""
        raise InvalidArgument("backbone", f"timm has no {backbone!r}{known}")


def build_timm_network(backbone: str, classes: int, input_size: int, weights: Path | None) -> Network:
    """Build one of timm's networks; see `backbones.build_network`."""
    _refuse_unknown(backbone)
    module: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=classes).eval()
    last_layer = module.pretrained_cfg.get("classifier")  # type: ignore[union-attr,operator]
    if not isinstance(last_layer, str) or not isinstance(module.get_submodule(last_layer), nn.Linear):
        raise InvalidArgument("backbone", f"{backbone!r} does not end in one linear layer")
    if weights is not None:
        load_weights(module, weights, last_layer, backbone)
    input_format = _read_input_format(module, input_size)
    cam_ready = _probe_head(module, input_format.size, backbone)
    layers = tuple(str(stage["module"]) for stage in getattr(module, "feature_info", []))
    module = module.to(memory_format=torch.channels_last)
    network = Network(backbone, module, input_format, last_layer, layers, cam_ready)
    blank_layer(network.linear)
    return network


def _read_input_format(module: nn.Module, input_size: int) -> InputFormat:
    config = resolve_data_config({}, model=module)  # type: ignore[no-untyped-call]
    mean, std = (tuple(float(value) for value in config[key]) for key in ("mean", "std"))
    return InputFormat(input_size or int(config["input_size"][1]), mean, std)  # type: ignore[arg-type]


def _probe_head(module: nn.Module, size: int, backbone: str) -> bool:
    """See by trial that features are (n, c, h, w), and tell whether the head is their mean and nothing more."""
    with torch.no_grad():
        features = module.forward_features(torch.zeros(1, 3, size, size))  # type: ignore[operator]
        if features.ndim != 4 or features.shape[1] != module.num_features:
            raise InvalidArgument("backbone", f"{backbone!r} is no convolutional network: it yields no map of features")
        noise = torch.rand(features.shape, generator=torch.Generator().manual_seed(0))
        pooled = module.forward_head(noise, pre_logits=True)  # type: ignore[operator]
    mean = noise.mean((2, 3))
    return pooled.shape == mean.shape and torch.allclose(pooled, mean, atol=1e-5)
