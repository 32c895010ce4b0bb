"""What a body that does not learn makes of the pictures of a training: computed when first asked for, and kept.

A training asks for each picture dozens of times, and the body takes most of the time: 2/3 of a step.
"""

import tempfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from services.saliency.detection.network import fold_trunk
from services.saliency.explain import run_many_in_fixed_batches
from services.saliency.network import Network
from services.saliency.pictures import Pixels
from services.saliency.segmentation.network import SteadyBody, feed

BATCH = 8  # pictures
MOST_KEPT_BYTES = 1 << 30  # in the temporary folder; what has no room is computed each time
ORIENTATIONS = 2  # as it is, and mirrored


class Features:
    """Maps of pictures, as they are and mirrored. They are rounded to half precision, kept or not.

    For one thread. What it keeps lies in a temporary file, mapped, and vanishes with it.
    """

    def __init__(self, body: SteadyBody, network: Network, pictures: Pixels) -> None:
        """Of pictures (n, s, s, 3) uint8, by the body of a network; it is not to be measured again."""
        self._body = fold_trunk(body, network)
        self._pictures = pictures
        self._network = network
        self._device = next(body.parameters()).device
        self._shapes = [each.shape[1:] for each in self._compute(pictures[:1])]
        width = sum(int(np.prod(shape)) for shape in self._shapes)
        room = MOST_KEPT_BYTES // (ORIENTATIONS * width * np.dtype(np.float16).itemsize)
        kept = max(1, min(len(pictures), room))
        with tempfile.TemporaryFile() as file:
            self._maps = np.memmap(file, np.float16, mode="w+", shape=(kept, ORIENTATIONS, width))
        self._known = np.zeros((kept, ORIENTATIONS), np.bool_)

    @property
    def device(self) -> torch.device:
        """Where maps lie."""
        return self._device

    @property
    def widths(self) -> tuple[int, ...]:
        """How many channels each map has."""
        return tuple(shape[-1] for shape in self._shapes)

    def read(self, batch: npt.NDArray[np.int64], *, mirrored: bool) -> list[torch.Tensor]:
        """Maps of pictures by number, each (m, c, h, w), fine to coarse."""
        side = int(mirrored)
        known = np.array([number < len(self._known) and self._known[number, side] for number in batch], np.bool_)
        rows = np.empty((len(batch), self._maps.shape[-1]), np.float16)
        rows[known] = self._maps[batch[known], side]
        if not known.all():
            rows[~known] = self._flatten(batch[~known], mirrored=mirrored)
            new = ~known & (batch < len(self._known))
            self._maps[batch[new], side], self._known[batch[new], side] = rows[new], True
        return self._unfold(torch.from_numpy(rows).to(self._device).float())

    def compute(self, pictures: Pixels) -> list[torch.Tensor]:
        """Maps of other pictures, of any size."""
        return [each.permute(0, 3, 1, 2) for each in self._compute(pictures)]

    def _flatten(self, batch: npt.NDArray[np.int64], *, mirrored: bool) -> npt.NDArray[np.float16]:
        pictures = self._pictures[batch]
        maps = self._compute(np.ascontiguousarray(pictures[:, :, ::-1] if mirrored else pictures))
        rows = torch.cat([each.flatten(1) for each in maps], 1)
        halves: npt.NDArray[np.float16] = rows.half().cpu().numpy()
        return halves

    def _compute(self, pictures: Pixels) -> Sequence[torch.Tensor]:
        """Maps (m, h, w, c): as convolutions like them, where they lie."""

        def forward(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(each.permute(0, 2, 3, 1) for each in self._body(part))

        return run_many_in_fixed_batches(forward, feed(self._network, pictures))

    def _unfold(self, rows: torch.Tensor) -> list[torch.Tensor]:
        parts = torch.split(rows, [int(np.prod(shape)) for shape in self._shapes], 1)
        count = len(rows)
        return [
            part.reshape(count, *shape).permute(0, 3, 1, 2) for part, shape in zip(parts, self._shapes, strict=True)
        ]


def measure(body: SteadyBody, network: Network, pictures: Pixels) -> None:
    """Measures what the body of a network makes of the pictures."""
    for start in range(0, len(pictures), BATCH):
        body.measure(feed(network, np.array(pictures[start : start + BATCH])))
