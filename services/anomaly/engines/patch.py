"""Engine `patch`: every small neighbourhood of the image is compared with those of normal images."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.anomaly.backbones import Backbone
from services.anomaly.engines.coreset import choose_spread
from services.anomaly.engines.engine import Embedding, Judgement, Layout, NormalItems
from services.anomaly.engines.levels import STRIDE_PX, embed_cells
from services.anomaly.frames import fit_longer_side

# One patch can be noise, and a defect is seen by all patches around it. Ten were chosen by defects made on held-out
# training images: more than three help on textures and cost nothing on parts (docs/measurements.md).
_WORST_PATCHES = 10
_WORST_SHARE = 0.05  # at most, of small images


class PatchEngine:
    """Nearest neighbours of patch features, after PatchCore (Roth et al., CVPR 2022).

    image -> backbone -> maps of stride 8 and 16 -> mean of 3 x 3 -> joined at stride 8 -> one vector per cell

    With a `frame` (h, w), which every image is stretched to and which shows every part at the same place, a cell is
    compared with normal cells at most one step away, and every vector is kept; without, with any normal cell, and an
    image keeps the `coreset_fraction` of its vectors that stands for the rest.

    With `by_angle` vectors have unit length and distances are 1 - cosine, as metric learning by angle trains them.
    """

    def __init__(
        self,
        backbone: Backbone,
        input_side_px: int,
        coreset_fraction: float,
        frame: tuple[int, int] | None = None,
        *,
        fit: Callable[[tuple[int, int], int], tuple[int, int]] = fit_longer_side,
        by_angle: bool = False,
    ) -> None:
        self._backbone = backbone.freeze()
        self._fit = fit
        self._by_angle = by_angle
        self._input_side_px = input_side_px
        self._coreset_fraction = coreset_fraction
        self.layout = Layout("flat", backbone.level_channels)
        self._frame = frame
        if frame is not None:
            height, width = self.choose_input_shape(frame)
            self.layout = Layout("cells", backbone.level_channels, (height // STRIDE_PX, width // STRIDE_PX))

    def choose_input_shape(self, frame: tuple[int, int]) -> tuple[int, int]:
        """See `Engine`: in the aspect ratio of the frame, or of the image."""
        return self._fit(self._frame or frame, self._input_side_px)

    def embed(self, image: Tensor, mask: NDArray[np.bool_] | None) -> Embedding:
        """See `Engine`: one vector per cell of stride 8 that belongs to the mask."""
        return embed_cells(self._backbone, image, mask, unit=self._by_angle)

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
        """See `Engine`: the score is the mean of the ten largest patch distances, of fewer where there are few."""
        neighbours = normals.nearest(embedding.vectors, embedding.cells, exclude)
        # Of unit vectors, 1 - cosine is half the squared distance.
        found = neighbours.distances**2 / 2 if self._by_angle else neighbours.distances
        distances = np.zeros(embedding.grid[0] * embedding.grid[1], dtype=np.float32)
        distances[embedding.cells] = found
        count = max(1, min(_WORST_PATCHES, round(_WORST_SHARE * len(found))))
        worst = np.sort(found)[-count:]
        nearest = neighbours.items[int(found.argmax())]
        return Judgement(float(worst.mean(dtype=np.float64)), nearest, distances.reshape(embedding.grid))

    def locate(self, image: Tensor, judgement: Judgement) -> NDArray[np.float32]:  # noqa: ARG002 - others need the image
        """See `Engine`: the distances themselves."""
        return judgement.distances if judgement.distances is not None else np.zeros((1, 1), dtype=np.float32)
