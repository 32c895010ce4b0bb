"""Networks made faster for judging on a CPU: a convolution, what normalises it and its activation become one step.

Normalisation by fixed statistics is itself linear, so it disappears in the weights (Jacob et al., CVPR 2018, section
3.2); the activation is done where the convolution writes its result. The numbers differ in the last bits from those of
the network as it was, and are the same every time.
"""

import copy
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# oneDNN's names of what it does to a result as it writes it.
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Hardtanh: "hardtanh", nn.ReLU6: "hardtanh"}


def can_fold(device: torch.device) -> bool:
    """Whether this build of torch has oneDNN's fused convolution, which works on a CPU alone."""
    has_step = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")  # type: ignore[no-untyped-call]
    return device.type == "cpu" and has_step


def fold(network: nn.Module) -> nn.Module:
    """A copy of `network`, for evaluation alone, in which convolutions are fused with what comes after them.

    A normalisation is taken to belong to the convolution that stands before it in the same module, as in the networks
    of timm; whoever folds others must compare the results.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    _fold_children(folded)
    return folded


def _fold_children(module: nn.Module) -> None:
    before: tuple[str, nn.Module] = "", module
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and _is_plain(before[1]):
            setattr(module, before[0], FoldedConvolution(before[1], child))
            setattr(module, name, nn.Identity())
        else:
            _fold_children(child)
        before = name, child


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Not one of the subclasses of a convolution that pad by themselves."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


class FoldedConvolution(nn.Module):
    """A convolution with its normalisation in its weights, and its activation.

    Args:
        convolution: as the network has it.
        norm: what follows; one of timm has its activation as `act`.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        fused = fuse_conv_bn_eval(convolution, norm)
        activation = getattr(norm, "act", nn.Identity())
        self._weight = fused.weight.contiguous(memory_format=torch.channels_last)
        self._bias = fused.bias
        geometry = (fused.padding, fused.stride, fused.dilation)
        self._geometry = [[int(step) for step in each] for each in geometry]
        self._groups = fused.groups
        self._step = _ACTIVATIONS.get(type(activation), "none")
        self._limits: list[Any] = [activation.min_val, activation.max_val] if self._step == "hardtanh" else []
        self._after = nn.Identity() if self._step != "none" else activation

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, d, h', w')."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(  # noqa: SLF001 - no public name; see can_fold
            images, self._weight, self._bias, *self._geometry, self._groups, self._step, self._limits, ""
        )
        after: Tensor = self._after(result)
        return after
