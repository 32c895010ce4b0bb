"""From a network's feature maps to one vector per cell."""

import torch
from torch import Tensor
from torch.nn import functional

STRIDE_PX = 8


def join_levels(levels: list[Tensor]) -> Tensor:
    """[(n, c8, h, w), (n, c16, h / 2, w / 2)] -> (n, c8 + c16, h, w), each averaged over 3 x 3 first."""
    smooth = [functional.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False) for level in levels]
    shape = smooth[0].shape[-2:]
    coarse = functional.interpolate(smooth[1], size=shape, mode="bilinear", align_corners=False)
    return torch.cat([smooth[0], coarse], dim=1)
