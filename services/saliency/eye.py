"""How a classifier looks at images: a view at a time, with the network and its folded twin."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from services.saliency import explain
from services.saliency.folding import Folded, fold_network
from services.saliency.network import Network
from services.saliency.pictures import normalise, prepare
from services.saliency.rules import Rule
from services.saliency.views import View

Maps = npt.NDArray[np.float32]  # (n, h, w)
Images = Sequence[npt.NDArray[np.generic]]


class Eye:
    """A network, frozen, on its device."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self._network = network
        self._device = device
        self.plain = View(network.input_format.size)

    @cached_property
    def folded(self) -> Folded:
        """The network and its twin, folded when first asked for."""
        return fold_network(self._network)

    def feed(self, images: Images, view: View) -> torch.Tensor:
        """Give the network's input for a view of each image, (n, 3, s, s). Raises InvalidArgument as `prepare` does."""
        form = self._network.input_format
        pictures = np.stack([prepare(image, view.side) for image in images])
        turned = pictures[:, :, ::-1] if view.mirrored else pictures
        return normalise(np.ascontiguousarray(turned), form.mean, form.std, self._device)

    def look(
        self, images: Images, view: View, classes: torch.Tensor | None, rule: Rule | None, layer: str
    ) -> tuple[Maps, torch.Tensor]:
        """Give maps (n, h, w), mirrored back of a mirror image, and logits (n, k); see `explain.look`."""
        maps, logits = explain.look(self.folded.having(layer), self.feed(images, view), classes, rule, layer)
        raw = maps.cpu().numpy()
        return np.ascontiguousarray(raw[:, :, ::-1]) if view.mirrored else raw, logits
