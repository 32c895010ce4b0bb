"""A network with every normalisation folded into the convolution before it: the same function, fewer steps.

In evaluation a batch normalisation is a scale and a shift of each channel, and so is part of what a convolution can do
(Jacob et al., CVPR 2018, section 3.2).
"""

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import fx, nn

from services.saliency.network import Network

Module = TypeVar("Module", bound=nn.Module)

_NEAR = 1e-3  # of the largest feature: what rounding may make of hundreds of layers


@dataclass(frozen=True)
class Folded:
    """A network and its folded twin.

    `changed` names the layers whose own output is another one in the twin: the convolutions that took something in.
    """

    plain: Network
    twin: Network
    changed: frozenset[str]

    def having(self, layer: str) -> Network:
        """The twin, where that layer yields in it what it yields in the network; else the network."""
        return self.plain if layer in self.changed else self.twin


def fold_network(network: Network) -> Folded:
    """Fold a network in evaluation mode. It is left as it is; its twin has its own copies of what is folded.

    Nothing is folded in one that cannot be traced, or that folding would change.
    """
    pairs = _list_pairs(network)
    twin = share_modules(network.module)
    for convolution, norm in pairs:
        _fold(twin, convolution, norm)
    folded = dataclasses.replace(network, module=twin)
    if not _agree(network, folded):
        return Folded(network, network, frozenset())
    return Folded(network, folded, frozenset(convolution for convolution, _ in pairs))


def share_modules(module: Module) -> Module:
    """Copy the tree of modules but none of its tensors, so that the copy can be altered and nobody else sees it."""
    shell: Module = object.__new__(type(module))
    shell.__dict__.update(module.__dict__)
    children = module.__dict__["_modules"].items()
    shell.__dict__["_modules"] = {name: None if child is None else share_modules(child) for name, child in children}
    return shell


class _Features(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.module.forward_features(inputs)  # type: ignore[operator]
        return features


class _Tracer(fx.Tracer):
    """Sees a normalisation with its activation, as timm has them, as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _list_pairs(network: Network) -> list[tuple[str, str]]:
    """Names of each convolution that feeds a normalisation and nothing else, and of that; both run once."""
    root = _Features(network.module).eval()
    try:
        graph = _Tracer().trace(root)
    except Exception:  # noqa: BLE001 - a network that looks at its input; torch.fx raises what the network's code raises
        return []
    modules = dict(root.named_modules())
    calls = [node for node in graph.nodes if node.op == "call_module"]
    runs = [node.target for node in calls]
    pairs = []
    for node in calls:
        before = node.args[0]
        feeds_alone = isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1
        once = feeds_alone and runs.count(before.target) == runs.count(node.target) == 1
        if once and _can_fold(modules[before.target], modules[node.target]):
            pairs.append((before.target.removeprefix("module."), node.target.removeprefix("module.")))
    return pairs


def _can_fold(convolution: nn.Module, norm: nn.Module) -> bool:
    return type(convolution) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    plain, scaling = module.get_submodule(convolution), module.get_submodule(norm)
    if isinstance(plain, nn.Conv2d) and isinstance(scaling, nn.BatchNorm2d):
        fused = nn.utils.fusion.fuse_conv_bn_eval(plain, scaling)
        _replace(module, convolution, fused.to(memory_format=torch.channels_last))
        _replace(module, norm, getattr(scaling, "act", nn.Identity()))  # timm's brings its activation along


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    module.get_submodule(parent).__dict__["_modules"][leaf] = part


def _agree(plain: Network, folded: Network) -> bool:
    side, weight = plain.input_format.size, next(plain.module.parameters())
    probe = torch.linspace(-2, 2, 3 * side * side, device=weight.device, dtype=weight.dtype).reshape(1, 3, side, side)
    with torch.no_grad():
        one, two = (network.module.forward_features(probe) for network in (plain, folded))  # type: ignore[operator]
    return bool((one - two).abs().max() <= _NEAR * one.abs().max().clamp(min=1e-6))
