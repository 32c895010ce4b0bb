"""The segmenter's network: scores at every position, from maps of several depths.

    pictures (n, 3, s, s) → backbone → maps of stride 4 (or 8), 8, 16, 32 → each brought to 128 channels (1 x 1)
                          → all enlarged to the finest and added → 3 x 3 → 1 x 1 → softmax (n, k + 1, s/4, s/4)

Of SEC, after the paper, backbone and head learn, and groups of channels are normalised. A *local* network is for
learning from little: a head without normalisation, whose statistics over the whole picture would tell every position
what lies elsewhere, so that it learnt pictures by heart, on a pretrained backbone that stays as it is.

What a coarse map knows about *what* and a fine one about *where* is added as in Long et al., "Fully convolutional
networks for semantic segmentation", CVPR 2015, section 4.2. Class 0 is the background.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from services.runtime.errors import InvalidArgument
from services.saliency.backbones import SMALL, build_network
from services.saliency.detection.network import SmallBody, TimmBody
from services.saliency.network import Network
from services.saliency.pictures import Pixels, normalise

CHANNELS, LOCAL_CHANNELS = 128, 64
GROUPS = 8  # of channels that are normalised together: no statistics that a small batch would spoil
COARSER = (8, 16, 32)


class Head(nn.Module):
    """The layers that score every position, from maps of several depths; `local` leaves normalisation out."""

    def __init__(self, widths: Sequence[int], classes: int, channels: int, *, local: bool) -> None:
        super().__init__()
        first, second = (nn.Identity() if local else nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.mix = nn.Sequential(
            first,
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            second,
            nn.ReLU(),
        )
        self.score = nn.Conv2d(channels, classes + 1, 1)
        nn.init.zeros_(self.score.weight)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps from fine to coarse, each (n, c, h, w) → logits (n, k + 1, h, w), h and w those of the finest."""
        brought = [lateral(each) for lateral, each in zip(self.laterals, maps, strict=True)]
        size = brought[0].shape[-2:]
        enlarged = [functional.interpolate(each, size, mode="bilinear", align_corners=False) for each in brought[1:]]
        logits: torch.Tensor = self.score(self.mix(sum(enlarged, brought[0])))
        return logits


class SteadyBody(nn.Module):
    """A body that does not learn, its maps brought to mean 0 and spread 1, channel by channel."""

    def __init__(self, body: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.body = body.requires_grad_(requires_grad=False)
        self.scales = nn.ModuleList(nn.BatchNorm2d(width, affine=False, momentum=None) for width in widths)
        self.eval()

    def forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """(n, 3, s, s) → maps; means and spreads are those of the pictures measured so far."""
        with torch.no_grad():
            return [scale(each) for scale, each in zip(self.scales, self.body(inputs), strict=True)]

    def measure(self, inputs: torch.Tensor) -> None:
        """Measure means and spreads of all channels, beside those of earlier pictures."""
        self.scales.train()
        self(inputs)
        self.scales.eval()


class Segmenter(nn.Module):
    """A backbone and the layers that score every position."""

    def __init__(self, body: nn.Module, widths: Sequence[int], classes: int, *, local: bool) -> None:
        super().__init__()
        self.body = body
        self.widths = tuple(widths)
        self.head = Head(widths, classes, LOCAL_CHANNELS if local else CHANNELS, local=local)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) → logits (n, k + 1, h, w), h and w those of the finest map."""
        logits: torch.Tensor = self.head(self.body(inputs))
        return logits


@dataclass(frozen=True)
class SegmentationNetwork:
    """The network, what feeds it, and what of it learns: `fresh` starts from nothing, `pretrained` does not."""

    module: Segmenter
    network: Network
    stride: int
    local: bool
    fresh: dict[str, nn.Parameter]
    pretrained: dict[str, nn.Parameter]

    @property
    def parts(self) -> tuple[list[nn.Parameter], ...]:
        """All that learns: it has one loss."""
        return ([*self.fresh.values(), *self.pretrained.values()],)

    def score(self, pictures: Pixels) -> torch.Tensor:
        """Logits of pictures (n, s, s, 3), (n, k + 1, h, w)."""
        logits: torch.Tensor = self.module(self.feed(pictures))
        return logits

    def feed(self, pictures: Pixels) -> torch.Tensor:
        """Pictures (n, s, s, 3) as inputs of the network, (n, 3, s, s)."""
        return feed(self.network, pictures)


def feed(network: Network, pictures: Pixels) -> torch.Tensor:
    """Pictures (n, s, s, 3) as inputs of a network, (n, 3, s, s), where it is."""
    form = network.input_format
    return normalise(pictures, form.mean, form.std, next(network.module.parameters()).device)


def build_segmentation_network(
    backbone: str,
    classes: int,
    *,
    input_size: int,
    stride: int = 8,
    local: bool = False,
    weights: Path | None = None,
    seed: int = 0,
) -> SegmentationNetwork:
    """Build a segmenter of `classes` labels and the background on the CPU; what is new in it is drawn from `seed`.

    `stride` is the finest map's, 4 or 8 pixels; the small network has 8 alone. `local`: see the module.
    Raises InvalidArgument for an unknown backbone or one without such maps; FailedPrecondition WEIGHTS_MISMATCH for the
    weights of another network.
    """
    network = build_network(backbone, 2, weights=weights, input_size=input_size, seed=seed)
    body, widths, before = _build_body(network, tuple(sorted({stride, *COARSER})))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Segmenter(SteadyBody(body, widths) if local else body, widths, classes, local=local)
    module.to(memory_format=torch.channels_last)
    pretrained = {} if local else _find_behind(module, before)
    fresh = {
        name: each for name, each in module.named_parameters() if not name.startswith("body.") or backbone == SMALL
    }
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter in (*fresh.values(), *pretrained.values()):
        parameter.requires_grad_()
    return SegmentationNetwork(module.eval(), network, 8 if backbone == SMALL else stride, local, fresh, pretrained)


def _build_body(network: Network, strides: Sequence[int]) -> tuple[nn.Module, list[int], str]:
    """Returns the body, how many channels its maps have, and the layer behind which it learns."""
    if network.backbone == SMALL:
        network.module.set_submodule(network.last_layer, nn.Identity())
        return SmallBody(network), [int(network.module.num_features)], ""  # type: ignore[arg-type]
    described: Any = network.module.feature_info
    levels = {level["reduction"]: number for number, level in enumerate(described)}
    lacking = [str(stride) for stride in strides if stride not in levels]
    if lacking or not hasattr(network.module, "forward_intermediates"):
        wanted = ", ".join(map(str, strides))
        raise InvalidArgument("backbone", f"must have maps of stride {wanted}; {network.backbone!r} lacks {lacking}")
    indices = [levels[stride] for stride in strides]
    infos = [described[index] for index in indices]
    network.module.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)  # type: ignore[operator]
    before = next(info["module"] for info in infos if info["reduction"] == COARSER[0])
    return TimmBody(network, indices), [info["num_chs"] for info in infos], before


def _find_behind(module: Segmenter, layer: str) -> dict[str, nn.Parameter]:
    """The backbone's parameters behind a layer: what lies before serves any image as it is, and costs most time."""
    parameters = [(name, each) for name, each in module.named_parameters() if name.startswith("body.")]
    places = [
        number for number, (name, _) in enumerate(parameters) if layer and name.startswith(f"body.trunk.{layer}.")
    ]
    return dict(parameters[places[-1] + 1 :]) if places else {}
