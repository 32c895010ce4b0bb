"""Networks of timm. Apart from `backbones.py`, because timm takes seconds and 200 MB to import."""

import copy

import timm
import torch
from torch import Tensor, nn

from services.anomaly.folding import can_fold, fold
from services.runtime.errors import InvalidArgument

_PROBE_PX = 64


def find_hub_repo(backbone: str) -> str | None:
    """The hub repository of a network's weights. Raises InvalidArgument where timm knows no such network."""
    if not timm.is_model(backbone):
        raise InvalidArgument("backbone", f"must be 'small' or a timm network, got {backbone!r}")
    pretrained = timm.get_pretrained_cfg(backbone)
    return str(pretrained.hf_hub_id) if pretrained is not None and pretrained.hf_hub_id else None


class TimmBackbone:
    """Any convolutional network of timm that can return intermediate maps."""

    def __init__(self, name: str) -> None:
        find_hub_repo(name)
        self.name = name
        self._network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
        info = getattr(self._network, "feature_info", None) or []
        by_stride = {level["reduction"]: (index, level["num_chs"]) for index, level in enumerate(info)}
        if not {8, 16} <= by_stride.keys():
            raise InvalidArgument("backbone", f"must have feature maps of stride 8 and 16, {name!r} has not")
        self._indices = [by_stride[8][0], by_stride[16][0]]
        self.level_channels = by_stride[8][1] + by_stride[16][1]
        self.channels = int(getattr(self._network, "head_hidden_size", None) or self._network.num_features)  # type: ignore[arg-type]

    def levels(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`; the network is left as soon as stride 16 is reached."""
        levels: list[Tensor] = self._network.forward_intermediates(  # type: ignore[operator]
            images, indices=self._indices, stop_early=True, intermediates_only=True
        )
        return levels

    def features(self, images: Tensor) -> Tensor:
        """See `Backbone`."""
        features: Tensor = self._network.forward_features(images)  # type: ignore[operator]
        return features

    def module(self) -> nn.Module:
        """See `Backbone`."""
        return self._network

    def freeze(self) -> "TimmBackbone":
        """See `Backbone`: folded on a CPU, unless this network is one that folding changes."""
        weight = next(self._network.parameters())
        if not can_fold(weight.device):
            return self
        frozen = copy.copy(self)
        frozen._network = fold(self._network)  # noqa: SLF001 - its own
        probe = torch.randn(1, 3, _PROBE_PX, _PROBE_PX, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            pairs = zip(self.levels(probe), frozen.levels(probe), strict=True)
            is_same = all(torch.allclose(before, after, rtol=1e-3, atol=1e-3) for before, after in pairs)
        return frozen if is_same else self
