"""From a network's feature maps to one vector per cell."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from services.anomaly.backbones import Backbone
from services.anomaly.engines.engine import Embedding
from services.anomaly.frames import shrink_mask
from services.runtime.errors import InvalidArgument

STRIDE_PX = 8


def embed_cells(
    backbone: Backbone,
    image: Tensor,
    mask: NDArray[np.bool_] | None,
    channels: Tensor | None = None,
    *,
    unit: bool = False,
) -> Embedding:
    """One vector for every cell of stride 8 that belongs to the mask: maps of stride 8 and 16, joined.

    Args:
        backbone: read at these strides.
        image: (1, 3, h, w), normalised.
        mask: (h, w) of the frame that was resized to it; None: every cell.
        channels: numbers of those that are kept; None: all.
        unit: whether vectors are brought to length 1.

    Raises:
        InvalidArgument: the mask covers no cell by half.
    """
    with torch.inference_mode():
        joined = join_levels(backbone.levels(image))[0]
        kept = joined if channels is None else joined[channels.to(image.device)]
        kept = functional.normalize(kept, dim=0) if unit else kept
    rows, columns = int(kept.shape[1]), int(kept.shape[2])
    vectors = kept.permute(1, 2, 0).reshape(rows * columns, -1).half().cpu().numpy()
    counted = np.ones((rows, columns), dtype=np.bool_) if mask is None else shrink_mask(mask, (rows, columns))
    cells = np.flatnonzero(counted).astype(np.int32)
    if cells.size == 0:
        raise InvalidArgument("mask", f"must cover a cell of the {rows} x {columns} grid by half, got an empty one")
    return Embedding(np.ascontiguousarray(vectors[cells]), cells, (rows, columns))


def join_levels(levels: list[Tensor]) -> Tensor:
    """[(n, c8, h, w), (n, c16, h / 2, w / 2)] -> (n, c8 + c16, h, w), each averaged over 3 x 3 first.

    What is beyond the image counts as zeros, as in PatchCore (Roth et al., CVPR 2022): so cells at its rim are
    like each other, and unlike the rest (docs/measurements.md).
    """
    smooth = [functional.avg_pool2d(level, 3, stride=1, padding=1) for level in levels]
    shape = smooth[0].shape[-2:]
    coarse = functional.interpolate(smooth[1], size=shape, mode="bilinear", align_corners=False)
    return torch.cat([smooth[0], coarse], dim=1)
