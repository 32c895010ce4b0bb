"""The networks that see: one of timm with its ImageNet weights, or a small one of our own for when there are none.

What needs timm imports it when it is first called: a process that only serves small networks, or none yet, never does.
"""

from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from services.runtime.errors import DataLoss, FailedPrecondition

DEFAULT_BACKBONE = "mobilenetv2_100"
SMALL_BACKBONE = "small"

# Layers whose shape depends on the number of classes somebody once trained for; we never use them.
_CLASSIFIER_LAYERS = ("classifier.", "fc.", "head.fc.")


class Backbone(Protocol):
    """A convolutional network read at three depths.

    Images are (n, 3, h, w) float32, normalised, h and w multiples of 32.
    """

    name: str
    level_channels: int
    channels: int

    def levels(self, images: Tensor) -> list[Tensor]:
        """Feature maps of stride 8 and stride 16; their channels add up to `level_channels`."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """The last feature map before pooling: (n, `channels`, h / 32, w / 32)."""
        ...

    def module(self) -> nn.Module:
        """The network itself: to train it, move it, save it."""
        ...

    def freeze(self) -> "Backbone":
        """The same where it is, as fast as it can be made; its weights do not change from now on."""
        ...


def hub_repo(backbone: str) -> str | None:
    """The hub repository that holds the weights of `backbone`, None for the small network, which has none.

    Raises:
        InvalidArgument: timm knows no such network.
    """
    if backbone == SMALL_BACKBONE:
        return None
    from services.anomaly.pretrained import find_hub_repo  # noqa: PLC0415 - see above

    return find_hub_repo(backbone)


def open_backbone(name: str, weights: Path | None, seed: int = 0) -> Backbone:
    """Build the network `name` in evaluation mode.

    Args:
        name: "small" or the name of a timm network.
        weights: a safetensors file in timm's layout (the classifier may be missing); None leaves the network as
            initialised, which is right for "small" and for a network whose trained state is loaded next.
        seed: of the initialisation.

    Raises:
        InvalidArgument: timm knows no such network, or it has no maps of stride 8 and 16.
        FailedPrecondition: WEIGHTS_MISMATCH, the file does not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = _build(name)
    if weights is not None:
        _load_weights(backbone, weights)
    backbone.module().eval().to(memory_format=torch.channels_last)  # see frames.to_tensor
    return backbone


def _build(name: str) -> Backbone:
    if name == SMALL_BACKBONE:
        return SmallBackbone()
    from services.anomaly.pretrained import TimmBackbone  # noqa: PLC0415 - see above

    return TimmBackbone(name)


class SmallBackbone:
    """A network of 0.2 M parameters that is trained on the given images.

    image -> [3x3 /2, 3x3] x 3 -> stride 8, 48 channels -> [3x3 /2, 3x3] -> stride 16, 96 -> [3x3 /2] -> stride 32, 128
    """

    name = SMALL_BACKBONE
    level_channels = 48 + 96
    channels = 128

    def __init__(self) -> None:
        self._fine = nn.Sequential(*_stage(3, 16), *_stage(16, 32), *_stage(32, 48))
        self._middle = nn.Sequential(*_stage(48, 96))
        self._coarse = nn.Sequential(*_convolve(96, self.channels, stride=2))
        self._network = nn.Sequential(self._fine, self._middle, self._coarse)

    def levels(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        fine = self._fine(images)
        return [fine, self._middle(fine)]

    def features(self, images: Tensor) -> Tensor:
        """See `Backbone`."""
        features: Tensor = self._network(images)
        return features

    def module(self) -> nn.Module:
        """See `Backbone`."""
        return self._network

    def freeze(self) -> Backbone:
        """See `Backbone`; it stays as it is."""
        return self


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [*_convolve(inputs, outputs, stride=2), *_convolve(outputs, outputs, stride=1)]


def _convolve(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _load_weights(backbone: Backbone, path: Path) -> None:
    try:
        given = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise DataLoss(f"{path.name} is no safetensors file: {error}") from error
    wanted = backbone.module().state_dict()
    fitting = {name: value for name, value in given.items() if not name.startswith(_CLASSIFIER_LAYERS)}
    wrong = sorted(
        name
        for name in wanted.keys() | fitting.keys()
        if name not in wanted or name not in fitting or wanted[name].shape != fitting[name].shape
    )
    if wrong:
        raise FailedPrecondition(
            "WEIGHTS_MISMATCH", f"{path.name} does not fit {backbone.name}: {', '.join(wrong[:3])}"
        )
    backbone.module().load_state_dict(fitting)
