"""Backbones: any of timm's convolutional networks, or the small one of our own, with a new last layer.

Nothing here touches the network or looks for files: weights come as the path of a safetensors file that somebody found.
What needs timm imports it when it is first called: a process that only serves small networks, or none yet, never does.
"""

from pathlib import Path

import torch

from services.runtime.errors import InvalidArgument
from services.saliency import small
from services.saliency.network import InputFormat, Network, blank_layer, load_weights

DEFAULT_BACKBONE = "mobilenetv2_100"
SMALL = "small"

MIN_INPUT_SIZE = 32  # pixels; below it the deepest feature map of most backbones is one position
MAX_INPUT_SIZE = 1024


def hub_repo(backbone: str) -> str:
    """Name the hub's repository of a backbone's weights, such as "timm/mobilenetv2_100.ra_in1k"; "" for `small`.

    Raises InvalidArgument for a name that timm does not know, or whose weights are on no hub.
    """
    if backbone == SMALL:
        return ""
    from services.saliency.pretrained import find_hub_repo  # noqa: PLC0415 - see above

    return find_hub_repo(backbone)


def find_input_size(backbone: str) -> int:
    """Tell the side of the square that a backbone was made for, pixels. Raises InvalidArgument for an unknown one."""
    if backbone == SMALL:
        return small.INPUT_SIZE
    from services.saliency.pretrained import find_timm_input_size  # noqa: PLC0415 - see above

    return find_timm_input_size(backbone)


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
    from services.saliency.pretrained import build_timm_network  # noqa: PLC0415 - see above

    return build_timm_network(backbone, classes, input_size, weights)


def _build_small(classes: int, input_size: int, weights: Path | None, seed: int) -> Network:
    module = small.SmallNetwork(classes).to(memory_format=torch.channels_last)
    small.draw_weights(module, torch.Generator().manual_seed(seed))
    if weights is not None:
        load_weights(module, weights, last_layer="fc", backbone=SMALL)
    blank_layer(module.fc)
    input_format = InputFormat(input_size or small.INPUT_SIZE, small.MEAN, small.STD)
    layers = ("stem", "stages.0", "stages.1", "stages.2")
    return Network(SMALL, module.eval(), input_format, "fc", layers, cam_ready=True)
