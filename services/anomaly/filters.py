"""What the patch engine sees where no pretrained network can be had: fixed filters, and a scale learnt from the images.

Colour, edges in four directions by their sign, and spots, at three scales, each averaged over a cell: the parts of HOG
(Dalal and Triggs, CVPR 2005) and of filter banks for texture (Leung and Malik, IJCV 43, 2001). A network of our own,
trained on a few dozen images in a minute, tells less.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIGMAS_PX = (1.5, 3.0, 6.0)
_DIRECTIONS = 4
_COLOURS = 3
_FINE_PX, _COARSE_PX = 8, 16
_LEAST = 5e-2
"""Added to every scale, in the units of the input: what varies less among normals, such as the colour of grey parts, is
noise of sensor and codec, and must not count as much as the rest."""


class FilterBank(nn.Module):
    """A `Backbone` that is not trained: responses of stride 8 and 16, each in units of what it varies among normals.

    images (n, 3, h, w) -> grey and two colour differences; grey -> edges and spots per scale -> mean over cells
    """

    name = "small"
    channels = _COLOURS + len(_SIGMAS_PX) * (_DIRECTIONS + 1)
    level_channels = 2 * channels

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(2, self.channels))
        self.register_buffer("colours", torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]]))
        self.scale: Tensor
        self.colours: Tensor

    def module(self) -> nn.Module:
        """See `Backbone`."""
        return self

    def freeze(self) -> "FilterBank":
        """See `Backbone`; it stays as it is: its scale may still be learnt."""
        return self

    def levels(self, images: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        responses = self._respond(images)
        cells = [functional.avg_pool2d(responses, side_px) for side_px in (_FINE_PX, _COARSE_PX)]
        return [level / scale[:, None, None] for level, scale in zip(cells, self.scale, strict=True)]

    def features(self, images: Tensor) -> Tensor:
        """See `Backbone`; of stride 16, for nothing coarser is made."""
        return self.levels(images)[1]

    def fit(self, images: Iterable[Tensor]) -> int:
        """Learn the scale: how much a response differs between two normals at the same place (root mean square).

        Args:
            images: normal ones (1, 3, h, w) of one size; read once.

        Returns:
            How many there were.
        """
        self.scale.fill_(1)
        total, count = torch.zeros_like(self.scale), 0
        last: list[Tensor] = []
        for image in images:
            levels = self.levels(image)
            if last:
                pairs = zip(levels, last, strict=True)
                total += torch.stack([(now - before).square().mean((0, 2, 3)) for now, before in pairs])
            last, count = levels, count + 1
        if count > 1:
            self.scale.copy_((total / (2 * (count - 1))).sqrt() + _LEAST)
        return count

    def _respond(self, images: Tensor) -> Tensor:
        colours = torch.einsum("dc,nchw->ndhw", self.colours, images)
        grey = colours[:, :1]
        return torch.cat([colours, *(_find_edges(grey, sigma_px) for sigma_px in _SIGMAS_PX)], dim=1)


def _find_edges(grey: Tensor, sigma_px: float) -> Tensor:
    """(n, 1, h, w) -> (n, directions + 1, h, w): slopes in each direction, 0 where it falls, and strength of spots.

    Derivatives of a Gaussian, times sigma to their order, so that scales compare (Lindeberg, IJCV 30, 1998).
    """
    smooth, slope, bend = _sample_gaussian(sigma_px, grey.device)
    across, down = _convolve(grey, slope, smooth), _convolve(grey, smooth, slope)
    angles = [2 * math.pi * k / _DIRECTIONS for k in range(_DIRECTIONS)]
    slopes = [(across * math.cos(angle) + down * math.sin(angle)).clamp(min=0) for angle in angles]
    spots = (_convolve(grey, bend, smooth) + _convolve(grey, smooth, bend)).abs()
    return torch.cat([*slopes, spots], dim=1)


def _convolve(grey: Tensor, across: Tensor, down: Tensor) -> Tensor:
    reach = len(across) // 2
    padded = functional.pad(grey, (reach, reach, reach, reach), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, across[None, None, None, :]), down[None, None, :, None])


def _sample_gaussian(sigma_px: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A Gaussian that adds up to 1, and what to correlate with for slopes and bends: its derivatives, up to sign."""
    reach = math.ceil(3 * sigma_px)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32, device=device) / sigma_px
    gaussian = torch.exp(-x.square() / 2)
    gaussian = gaussian / gaussian.sum()
    bend = (x.square() - 1) * gaussian
    return gaussian, x * gaussian, bend - bend.mean()
