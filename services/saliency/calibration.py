"""What serving needs besides the network: the temperature of its probabilities, what was trained on, what was held out.

Held-out items say which probability and which distance are usual; nothing here is ever fitted on what was trained on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Tensors = dict[str, torch.Tensor]

_PREFIX = "calibration:"  # no network has a tensor of such a name


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The items that were held out, as they are answered now."""

    probabilities: Floats  # (v, k), calibrated
    distances: Floats  # (v,), cosine distance to the nearest of `Memory`
    classes: Integers  # (v,)
    units: Integers  # (v,); items of one group, or look-alikes, have the same number


@dataclass(frozen=True, eq=False)
class Memory:
    """Embeddings of what was trained on, or of so many as stand for all: (m, d) float32, each of length 1."""

    embeddings: torch.Tensor

    def measure(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Cosine distances (n,), 0 to 2, of embeddings (n, d) to the nearest one that is remembered.

        As Sun et al. ("Out-of-distribution detection with deep nearest neighbors", ICML 2022) tell the unforeseen.
        """
        cosines = torch.nn.functional.normalize(embeddings, dim=1) @ self.embeddings.T
        return (1 - cosines.amax(1)).clamp(min=0)

    def to(self, device: torch.device) -> "Memory":
        """The same on another device."""
        return Memory(self.embeddings.to(device))


@dataclass(frozen=True, eq=False)
class Calibration:
    """`temperature` divides the logits; the rest is None for a classifier that was trained before there was this."""

    temperature: float = 1.0
    held_out: HeldOut | None = None
    memory: Memory | None = None

    def pack(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors to be saved beside a network's, and what goes with them as JSON."""
        about = {"temperature": self.temperature}
        if self.held_out is None or self.memory is None:
            return {}, about
        rows = {name: torch.from_numpy(value) for name, value in vars(self.held_out).items()}
        tensors = rows | {"memory": self.memory.embeddings.half()}
        return {_PREFIX + name: tensor for name, tensor in tensors.items()}, about

    @classmethod
    def unpack(cls, tensors: Tensors, about: dict[str, Any]) -> tuple["Calibration", Tensors]:
        """The calibration among saved tensors, and those that are left."""
        found = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)}
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREFIX)}
        temperature = float(about.get("temperature", 1.0))
        if not found:
            return cls(temperature), rest
        memory = Memory(found.pop("memory").float())
        held_out = HeldOut(**{name: tensor.numpy() for name, tensor in found.items()})
        return cls(temperature, held_out, memory), rest
