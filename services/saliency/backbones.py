"""Backbones: any of timm's convolutional networks, or the small one of our own, with a new last layer.

Nothing here touches the network or looks for files: weights come as the path of a safetensors file that somebody found.
"""

from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import timm
import torch
from timm.data.config import resolve_data_config
from torch import nn

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.saliency import small

DEFAULT_BACKBONE = "mobilenetv2_100"
SMALL = "small"

MIN_INPUT_SIZE = 32  # pixels; below it the deepest feature map of most backbones is one position
MAX_INPUT_SIZE = 1024
DEFAULT_INPUT_SIZE = 224  # where timm does not say


@dataclass(frozen=True)
class InputFormat:
    """What a network wants to be fed: square side in pixels, and mean and spread of its training pixels in [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Network:
    """A backbone with a linear last layer. `layers` are the usual places for Grad-CAM, from fine to coarse.

    `cam_ready` says that the head is a mean over positions and a linear layer, so that CAM has a closed form.
    """

    backbone: str
    module: nn.Module
    input_format: InputFormat
    last_layer: str
    layers: tuple[str, ...]
    cam_ready: bool

    @property
    def linear(self) -> nn.Linear:
        """The last layer, (k, d)."""
        layer = self.module.get_submodule(self.last_layer)
        if not isinstance(layer, nn.Linear):
            raise InvalidArgument(
                "backbone", f"{self.backbone!r} ends in {type(layer).__name__}, not in a linear layer"
            )
        return layer


def hub_repo(backbone: str) -> str:
    """Name the hub's repository of a backbone's weights, such as "timm/mobilenetv2_100.ra_in1k"; "" for `small`.

    Raises InvalidArgument for a name that timm does not know, or whose weights are on no hub.
    """
    if backbone == SMALL:
        return ""
    _refuse_unknown(backbone)
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.hf_hub_id:
        raise InvalidArgument("backbone", f"{backbone!r} has no published weights")
    return str(config.hf_hub_id)


def find_input_size(backbone: str) -> int:
    """Tell the side of the square that a backbone was made for, pixels. Raises InvalidArgument for an unknown one."""
    if backbone == SMALL:
        return small.INPUT_SIZE
    _refuse_unknown(backbone)
    config = timm.get_pretrained_cfg(backbone)
    return int(config.input_size[1]) if config is not None else DEFAULT_INPUT_SIZE


def build_network(
    backbone: str, classes: int, *, weights: Path | None = None, input_size: int = 0, seed: int = 0
) -> Network:
    """Build a backbone with a new last layer of `classes` outputs, all zero, on the CPU and in evaluation mode.

    `weights` None leaves random weights (drawn from `seed` for `small`). `input_size` 0 takes the backbone's own.
    Raises InvalidArgument for an unknown or unsuited backbone or size; FailedPrecondition WEIGHTS_MISMATCH for the
    weights of another network.
    """
    if input_size and not MIN_INPUT_SIZE <= input_size <= MAX_INPUT_SIZE:
        limits = f"{MIN_INPUT_SIZE} to {MAX_INPUT_SIZE}"
        raise InvalidArgument("input_size", f"{input_size} pixels are outside {limits}")
    if backbone == SMALL:
        return _build_small(classes, input_size, weights, seed)
    _refuse_unknown(backbone)
    return _build_from_timm(backbone, classes, input_size, weights)


def _refuse_unknown(backbone: str) -> None:
    if not timm.is_model(backbone):
        near = ", ".join(timm.list_models(f"*{backbone[:6]}*")[:5])
        known = f"; near it: {near}" if near else ""
        raise InvalidArgument("backbone", f"timm has no {backbone!r}{known}")


def _build_small(classes: int, input_size: int, weights: Path | None, seed: int) -> Network:
    module = small.SmallNetwork(classes).to(memory_format=torch.channels_last)
    small.draw_weights(module, torch.Generator().manual_seed(seed))
    if weights is not None:
        load_weights(module, weights, last_layer="fc", backbone=SMALL)
    _blank(module.fc)
    input_format = InputFormat(input_size or small.INPUT_SIZE, small.MEAN, small.STD)
    layers = ("stem", "stages.0", "stages.1", "stages.2")
    return Network(SMALL, module.eval(), input_format, "fc", layers, cam_ready=True)


def _build_from_timm(backbone: str, classes: int, input_size: int, weights: Path | None) -> Network:
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
    _blank(network.linear)
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


def _blank(linear: nn.Linear) -> None:
    """Start the last layer at zero: no label is preferred before the first image is seen, whatever the seed."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)


def load_weights(module: nn.Module, path: Path, last_layer: str, backbone: str) -> None:
    """Load a safetensors file into all but the last layer: only that layer's tensors may be missing or too many.

    Raises FailedPrecondition WEIGHTS_MISMATCH naming the file and the first tensors that do not fit.
    """
    try:
        found = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise FailedPrecondition("WEIGHTS_MISMATCH", f"{path.name} is no readable safetensors file: {error}") from error
    wanted = _drop_layer(module.state_dict(), last_layer)
    given = _drop_layer(found, last_layer)
    _refuse_misfits(wanted, given, path, backbone)
    module.load_state_dict(given, strict=False)


def _drop_layer(tensors: dict[str, torch.Tensor], layer: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{layer}.")}


def _refuse_misfits(wanted: dict[str, torch.Tensor], given: dict[str, torch.Tensor], path: Path, backbone: str) -> None:
    missing = sorted(wanted.keys() - given.keys())
    unknown = sorted(given.keys() - wanted.keys())
    misshapen = sorted(name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape)
    faults = {"lacks": missing, "has unknown": unknown, "has another shape of": misshapen}
    told = [f"{fault} {len(names)} tensors ({', '.join(names[:3])})" for fault, names in faults.items() if names]
    if told:
        raise FailedPrecondition("WEIGHTS_MISMATCH", f"{path.name} does not fit {backbone!r}: it {'; '.join(told)}")
