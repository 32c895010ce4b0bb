"""Engine `padim`: at every position a Gaussian of what normal images show there.

Defard, Setkov, Loesch and Audigier, "PaDiM: a patch distribution modeling framework for anomaly detection and
localization", ICPR 2021: features of several levels, some of their channels drawn at random, a mean and a covariance
for every position (eq. 1, with 0.01 on its diagonal), the Mahalanobis distance to it (eq. 2), and the largest one as
the score. It asks for images in one pose, or for textures.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.anomaly.backbones import Backbone
from services.anomaly.engines.engine import Embedding, Judgement, Layout, NormalItems
from services.anomaly.engines.levels import STRIDE_PX, embed_cells
from services.anomaly.frames import fit_longer_side

_REGULARISER = 0.01
_SMOOTHING_PX = 4.0  # of the distance map, as in the paper
_POSITIONS_AT_ONCE = 256  # memory for the fit: of these, times items, times channels


@dataclass(frozen=True)
class Gaussians:
    """What normal images show at each of p positions."""

    means: NDArray[np.float32]  # (p, d)
    precisions: NDArray[np.float32]  # (p, d, d), the inverse covariances

    def measure(self, vectors: NDArray[np.float16]) -> NDArray[np.float32]:
        """(p,) Mahalanobis distance of each of the vectors (p, d) at its position."""
        difference = vectors.astype(np.float32) - self.means
        squared = (np.matmul(difference[:, None, :], self.precisions)[:, 0] * difference).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(squared, 0)), dtype=np.float32)


class PadimEngine:
    """A Gaussian per position; the bank keeps one vector per position and item.

    Args:
        backbone: read at strides 8 and 16.
        input_side_px: longer side of what the network sees; of images without a frame both sides.
        dimension: channels that are kept, drawn by `seed`; all where there are fewer.
        seed: of the draw.
        frame: (h, w) of every prepared image; None: images of any shape, each stretched to a square.
    """

    def __init__(
        self, backbone: Backbone, input_side_px: int, dimension: int, seed: int, frame: tuple[int, int] | None
    ) -> None:
        self._backbone = backbone.freeze()
        drawn = np.random.default_rng(seed).permutation(backbone.level_channels)[:dimension]
        self._channels = torch.from_numpy(np.sort(drawn))
        self._shape = fit_longer_side(frame or (1, 1), input_side_px)
        self.layout = Layout("stack", len(drawn))

    def choose_input_shape(self, frame: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002 - the same for all
        """See `Engine`."""
        return self._shape

    def embed(self, image: Tensor, mask: NDArray[np.bool_] | None) -> Embedding:
        """See `Engine`: the drawn channels of every cell of stride 8 that belongs to the mask."""
        return embed_cells(self._backbone, image, mask, self._channels)

    def contribute(self, embedding: Embedding) -> Embedding:
        """See `Engine`: all vectors."""
        return embedding

    def prepare(self, normals: NormalItems) -> None:
        """See `Engine`: fits the Gaussians, about a second for 200 items."""
        normals.remember(self._fit)

    def judge(self, embedding: Embedding, normals: NormalItems, exclude: AbstractSet[str] = frozenset()) -> Judgement:
        """See `Engine`: the largest of the smoothed distances. No item is nearest: all of them made the Gaussians."""
        distances = np.zeros(embedding.grid, dtype=np.float32)
        distances.ravel()[embedding.cells] = normals.remember(self._fit, exclude).measure(embedding.vectors)
        smooth = cv2.GaussianBlur(distances, (0, 0), _SMOOTHING_PX / STRIDE_PX)
        return Judgement(float(smooth.max()), "", np.asarray(smooth, dtype=np.float32))

    def locate(self, image: Tensor, judgement: Judgement) -> NDArray[np.float32]:  # noqa: ARG002 - others need the image
        """See `Engine`: the distances themselves."""
        return judgement.distances if judgement.distances is not None else np.zeros((1, 1), dtype=np.float32)

    def _fit(self, normals: NormalItems, exclude: AbstractSet[str]) -> Gaussians:
        stacked = normals.all_vectors(exclude)
        items = normals.count(exclude)
        by_position = stacked.reshape(items, -1, stacked.shape[1]).transpose(1, 0, 2)  # (p, n, d)
        found = [
            fit_gaussians(by_position[start : start + _POSITIONS_AT_ONCE])
            for start in range(0, len(by_position), _POSITIONS_AT_ONCE)
        ]
        return Gaussians(
            np.concatenate([part.means for part in found]), np.concatenate([part.precisions for part in found])
        )


def fit_gaussians(samples: NDArray[np.float16]) -> Gaussians:
    """Mean and inverse covariance at each of p positions, from samples (p, n, d). In double precision."""
    exact = samples.astype(np.float64)
    means = exact.mean(axis=1)
    exact -= means[:, None]
    covariances = np.matmul(exact.transpose(0, 2, 1), exact) / max(1, samples.shape[1] - 1)
    covariances += _REGULARISER * np.eye(samples.shape[2])
    return Gaussians(means.astype(np.float32), np.linalg.inv(covariances).astype(np.float32))
