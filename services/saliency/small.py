"""A small convolutional network of our own, for where no pretrained weights can be had."""

import torch
from torch import nn

INPUT_SIZE = 128  # pixels; a quarter of the work of 224, and detail that a net this small can use
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)

_WIDTHS = (16, 32, 64, 96)
_NOISE = 0.1
"""Added to the variance: less contrast than this between channels is noise, and stays small."""


class SmallNetwork(nn.Module):
    """Speaks the part of timm's dialect that the rest of saliency uses.

    image (n, 3, s, s) → stem /2 → stages.0 /4 → stages.1 /8 → stages.2 (n, 96, s/8, s/8) → mean → fc (n, k)

    Every position is normalised over its own channels, as in ConvNeXt (Liu et al., CVPR 2022, section 2.6): there are
    no running statistics, so a handful of images is enough to train on, no image feels the others in its batch, and no
    position the rest of its image. Statistics over the whole image would tell bare background what lies elsewhere, and
    the CAM would light up all of it.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_features = _WIDTHS[-1]
        self.stem = _build_block(3, _WIDTHS[0], stride=2)
        strides = (2, 2, 1)
        pairs = zip(_WIDTHS[:-1], _WIDTHS[1:], strides, strict=True)
        self.stages = nn.Sequential(*(_build_block(inner, outer, stride) for inner, outer, stride in pairs))
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward_features(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) → (n, 96, s/8, s/8)."""
        features: torch.Tensor = self.stages(self.stem(inputs))
        return features

    def forward_head(self, features: torch.Tensor, *, pre_logits: bool = False) -> torch.Tensor:
        """(n, c, h, w) → (n, k), or (n, c) before the linear layer."""
        pooled = features.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) → logits (n, k)."""
        return self.forward_head(self.forward_features(inputs))


def _build_block(inner: int, outer: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, ChannelNorm(outer), nn.ReLU())


class ChannelNorm(nn.Module):
    """(n, c, h, w) → (n, c, h, w), each position with mean 0 and variance 1 over its channels, then scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """See the class."""
        variance, mean = torch.var_mean(inputs, dim=1, keepdim=True, correction=0)
        return (inputs - mean) * torch.rsqrt(variance + _NOISE) * self.weight + self.bias


def draw_weights(network: SmallNetwork, generator: torch.Generator) -> None:
    """Fill the convolutions as He et al. (ICCV 2015) advise before ReLU, from `generator` and no global state."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
