"""The detector's network: FCOS of torchvision on a pyramid of features.

    pictures (n, 3, s, s) → backbone → maps of stride 8, 16, 32 → feature pyramid (96 channels each)
                                    → FCOS heads → at every position: a score a label, a box, how central it is

Tian et al., "FCOS: Fully convolutional one-stage object detection", ICCV 2019; Lin et al., "Feature pyramid networks",
CVPR 2017. No anchors to choose, and what starts from nothing is small, so that a hundred images are enough to learn on.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from services.runtime.errors import InvalidArgument
from services.saliency.backbones import SMALL, build_network
from services.saliency.detection.objects import LEAST_SCORE, MOST_OBJECTS
from services.saliency.folding import Module, fold_network, share_modules
from services.saliency.network import Network

STRIDES = (8, 16, 32)
CHANNELS = 96  # of the pyramid, a multiple of 32 for the heads' group norm
TOWER_CONVOLUTIONS = 2  # of each head; four in the paper
SUPPRESSION_IOU = 0.5  # of the same label; 0.6 in the paper, where people stand before each other
MOST_CANDIDATES = 500  # of each map

Target = dict[str, torch.Tensor]


class Body(Protocol):
    """Gives maps of features, from fine to coarse."""

    def __call__(self, inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """(n, 3, s, s) → maps of (n, c, s/8, s/8) and coarser."""
        ...


class TimmBody(nn.Module):
    """A network of timm, read where its stride is 8, 16 and 32."""

    def __init__(self, network: Network, indices: Sequence[int]) -> None:
        super().__init__()
        self.trunk = network.module
        self._indices = list(indices)

    def forward(self, inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """See `Body`."""
        maps: Sequence[torch.Tensor] = self.trunk.forward_intermediates(  # type: ignore[operator]
            inputs, indices=self._indices, stop_early=True, intermediates_only=True
        )
        return maps


class SmallBody(nn.Module):
    """The small network, whose only map has stride 8; the pyramid makes the coarser ones."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.trunk = network.module

    def forward(self, inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """See `Body`."""
        return [self.trunk.forward_features(inputs)]  # type: ignore[operator]


def fold_trunk(module: Module, network: Network) -> Module:
    """Copy a module on a network's body, its normalisations folded; all other tensors are those of the module."""
    twin = share_modules(module)
    trunk = fold_network(network).twin.module
    for part in twin.modules():
        if isinstance(part, TimmBody | SmallBody):
            part.trunk = trunk
    return twin


class Pyramid(nn.Module):
    """A body and its feature pyramid, as torchvision's detectors want a backbone."""

    out_channels = CHANNELS

    def __init__(self, body: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.body = body
        extra = LastLevelP6P7(widths[-1], CHANNELS) if len(widths) == 1 else None
        self.pyramid = FeaturePyramidNetwork(list(widths), CHANNELS, extra_blocks=extra)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, 3, s, s) → three maps, by name."""
        maps = OrderedDict((str(number), each) for number, each in enumerate(self.body(inputs)))
        features: dict[str, torch.Tensor] = self.pyramid(maps)
        return features


@dataclass(frozen=True)
class DetectionNetwork:
    """The network, and what of it learns: `fresh` starts from nothing, `pretrained` does not."""

    module: FCOS
    network: Network
    fresh: dict[str, nn.Parameter]
    pretrained: dict[str, nn.Parameter]

    @property
    def backbone(self) -> str:
        """Of timm, or "small"."""
        return self.network.backbone

    @property
    def input_size(self) -> int:
        """Side of the square that it is fed, pixels."""
        return self.network.input_format.size

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = next(self.module.parameters()).device
        return device

    def compute_losses(self, pictures: torch.Tensor, targets: list[Target]) -> dict[str, torch.Tensor]:
        """Losses by name: pictures (n, 3, s, s) in [0, 1]; a target is boxes (m, 4) and labels (m,).

        The backbone's batch statistics stay as they are: a handful of images would only spoil them.
        """
        self.module.train()
        self.module.backbone.body.eval()
        losses: dict[str, torch.Tensor] = self.module(list(pictures), targets)
        return losses

    def detect(self, pictures: torch.Tensor) -> list[Target]:
        """Detections of each picture, surest first: boxes (m, 4), labels (m,), scores (m,); in evaluation mode."""
        found: list[Target] = self.module(list(pictures))
        return found


def build_detection_network(
    backbone: str, classes: int, *, input_size: int, weights: Path | None = None, seed: int = 0
) -> DetectionNetwork:
    """Build a detector of `classes` labels on the CPU; what is new in it is drawn from `seed`.

    Raises InvalidArgument for an unknown backbone or one without maps of stride 8, 16 and 32; FailedPrecondition
    WEIGHTS_MISMATCH for the weights of another network.
    """
    network = build_network(backbone, 2, weights=weights, input_size=input_size, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pyramid = _build_pyramid(network)
        module = _build_fcos(pyramid, network, classes)
    module.to(memory_format=torch.channels_last)
    pretrained = {} if backbone == SMALL else _find_learning(network, pyramid)
    trunk = () if backbone == SMALL else tuple(f"backbone.body.{name}" for name, _ in pyramid.body.named_parameters())
    fresh = {name: parameter for name, parameter in module.named_parameters() if name not in trunk}
    _thaw(module, [*fresh.values(), *pretrained.values()])
    return DetectionNetwork(module, network, fresh, pretrained)


def _build_pyramid(network: Network) -> Pyramid:
    if network.backbone == SMALL:
        network.module.set_submodule(network.last_layer, nn.Identity())
        return Pyramid(SmallBody(network), [int(network.module.num_features)])  # type: ignore[arg-type]
    info = list(getattr(network.module, "feature_info", []))
    levels = {level["reduction"]: index for index, level in enumerate(info)}
    lacking = [str(stride) for stride in STRIDES if stride not in levels]
    if lacking or not hasattr(network.module, "forward_intermediates"):
        told = ", ".join(lacking) or "any"
        raise InvalidArgument("backbone", f"must have maps of stride 8, 16 and 32; {network.backbone!r} lacks {told}")
    indices = [levels[stride] for stride in STRIDES]
    widths = [int(info[index]["num_chs"]) for index in indices]
    # What lies behind the last map would be saved with every detector, and read by none.
    network.module.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)  # type: ignore[operator]
    return Pyramid(TimmBody(network, indices), widths)


def _build_fcos(pyramid: Pyramid, network: Network, classes: int) -> FCOS:
    anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    form = network.input_format
    return FCOS(
        pyramid,
        num_classes=classes,
        min_size=form.size,
        max_size=form.size,
        image_mean=list(form.mean),
        image_std=list(form.std),
        anchor_generator=anchors,
        head=FCOSHead(CHANNELS, 1, classes, TOWER_CONVOLUTIONS),
        score_thresh=LEAST_SCORE,
        nms_thresh=SUPPRESSION_IOU,
        detections_per_img=MOST_OBJECTS,
        topk_candidates=MOST_CANDIDATES,
        _skip_resize=True,
    )


def _find_learning(network: Network, pyramid: Pyramid) -> dict[str, nn.Parameter]:
    """What of a pretrained backbone learns along: all behind the map of stride 8.

    The edges and textures before it serve any image as they are, and cost most of the time.
    """
    names = [level["module"] for level in network.module.feature_info if level["reduction"] == STRIDES[0]]  # type: ignore[union-attr]
    parameters = dict(pyramid.body.named_parameters())
    before = [number for number, name in enumerate(parameters) if name.startswith(f"trunk.{names[0]}.")]
    behind = list(parameters.items())[before[-1] + 1 if before else 0 :]
    return {f"backbone.body.{name}": parameter for name, parameter in behind}


def _thaw(module: nn.Module, learning: Sequence[nn.Parameter]) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_()
