"""An optimiser's memory, to and from a checkpoint."""

from collections.abc import Mapping

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]


def copy_momenta(optimiser: torch.optim.Optimizer, learning: Mapping[str, nn.Parameter]) -> Tensors:
    """Copy what it remembers, by tensor and by what it is."""
    return {
        f"{name}/{key}": value.detach().clone()
        for name, parameter in learning.items()
        for key, value in optimiser.state[parameter].items()
    }


def load_momenta(optimiser: torch.optim.Optimizer, learning: Mapping[str, nn.Parameter], momenta: Tensors) -> None:
    """Put back what `copy_momenta` copied."""
    for path, value in momenta.items():
        name, _, key = path.rpartition("/")
        optimiser.state[learning[name]][key] = value.clone()
