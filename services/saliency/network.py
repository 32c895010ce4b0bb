"""A network as the rest of saliency sees it, and how weights get into it."""

from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from services.runtime.errors import FailedPrecondition, InvalidArgument


@dataclass(frozen=True)
class InputFormat:
    """What a network wants to be fed: square side in pixels, and mean and spread of its training pixels in [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    centre_of: int = 0
    """Side of the square that an image is squeezed to before its centre is cut out, pixels; 0: it is fed whole."""


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


def blank_layer(linear: nn.Linear) -> None:
    """Start a last layer at zero: no label is preferred before the first image is seen, whatever the seed."""
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
