"""Engine `patch`: every small neighbourhood of the image is compared with those of normal images."""

from collections.abc import Set as AbstractSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.anomaly.backbones import Backbone
from services.anomaly.engines.coreset import choose_spread
from services.anomaly.engines.engine import Embedding, Judgement, Layout, NormalItems
from services.anomaly.engines.levels import STRIDE_PX, join_levels
from services.anomaly.frames import fit_longer_side, shrink_mask
from services.runtime.errors import InvalidArgument

_WORST_PATCHES = 3  # one patch can be noise; a defect of 8 px is seen by its neighbours too


class PatchEngine:
    """Nearest neighbours of patch features, after PatchCore (Roth et al., CVPR 2022).

    image -> backbone -> maps of stride 8 and 16 -> mean of 3 x 3 -> joined at stride 8 -> one vector per cell

    With a `frame` (h, w) (images brought into one pose) a cell is compared with normal cells at most one step away, and
    every vector is kept; without, with any normal cell, and an image keeps the `coreset_fraction` of its vectors that
    stands for the rest.
    """

    def __init__(
        self, backbone: Backbone, input_side_px: int, coreset_fraction: float, frame: tuple[int, int] | None = None
    ) -> None:
        self._backbone = backbone
        self._input_side_px = input_side_px
        self._coreset_fraction = coreset_fraction
        self.layout = Layout("flat", backbone.level_channels)
        if frame is not None:
            height, width = self.choose_input_shape(frame)
            self.layout = Layout("cells", backbone.level_channels, (height // STRIDE_PX, width // STRIDE_PX))

    def choose_input_shape(self, frame: tuple[int, int]) -> tuple[int, int]:
        """See `Engine`: the longer side is the given one, the aspect ratio stays."""
        return fit_longer_side(frame, self._input_side_px)

    def embed(self, image: Tensor, mask: NDArray[np.bool_] | None) -> Embedding:
        """See `Engine`: one vector per cell of stride 8 that belongs to the mask."""
        with torch.inference_mode():
            joined = join_levels(self._backbone.levels(image))[0]
        rows, columns = int(joined.shape[1]), int(joined.shape[2])
        vectors = joined.permute(1, 2, 0).reshape(rows * columns, -1).half().cpu().numpy()
        counted = np.ones((rows, columns), dtype=np.bool_) if mask is None else shrink_mask(mask, (rows, columns))
        cells = np.flatnonzero(counted).astype(np.int32)
        if cells.size == 0:
            raise InvalidArgument("mask", f"must cover a cell of the {rows} x {columns} grid by half, got an empty one")
        return Embedding(np.ascontiguousarray(vectors[cells]), cells, (rows, columns))

    def contribute(self, embedding: Embedding) -> Embedding:
        """See `Engine`: all vectors where position counts, else the coreset of this image alone."""
        if self.layout.arrangement == "cells":
            return embedding
        count = max(1, round(self._coreset_fraction * len(embedding.vectors)))
        kept = choose_spread(embedding.vectors.astype(np.float32), count)
        return Embedding(embedding.vectors[kept], embedding.cells[kept], embedding.grid)

    def prepare(self, normals: NormalItems) -> None:
        """See `Engine`: the bank itself is all that is needed."""

    def judge(self, embedding: Embedding, normals: NormalItems, exclude: AbstractSet[str] = frozenset()) -> Judgement:
        """See `Engine`: the score is the mean of the three largest patch distances."""
        distances = np.zeros(embedding.grid[0] * embedding.grid[1], dtype=np.float32)
        neighbours = normals.nearest(embedding.vectors, embedding.cells, exclude)
        distances[embedding.cells] = neighbours.distances
        worst = np.sort(neighbours.distances)[-_WORST_PATCHES:]
        nearest = neighbours.items[int(neighbours.distances.argmax())]
        return Judgement(float(worst.mean(dtype=np.float64)), nearest, distances.reshape(embedding.grid))

    def locate(self, image: Tensor, judgement: Judgement) -> NDArray[np.float32]:  # noqa: ARG002 - others need the image
        """See `Engine`: the distances themselves."""
        return judgement.distances if judgement.distances is not None else np.zeros((1, 1), dtype=np.float32)
