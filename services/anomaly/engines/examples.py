"""What the metric engine learns from: vectors of images with made-up defects, and the class of each vector."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.anomaly.backbones import Backbone
from services.anomaly.engines.defects import NORMAL
from services.anomaly.engines.levels import join_levels
from services.anomaly.frames import shrink_mask, to_tensor

_CHANGED = 12  # grey values: by more than that a pixel is a defect's; less is the soft edge of a line
_DEFECTIVE_SHARE = 0.1  # of a cell; between none and this a cell is of no class
_FEWEST_NORMAL = 64  # cells a batch, where the defects have fewer


@dataclass(frozen=True)
class Batch:
    """Normal images, and what was made of them."""

    originals: NDArray[np.uint8]  # (n, h, w, 3)
    images: NDArray[np.uint8]  # (n, h, w, 3)
    classes: NDArray[np.int64]  # (n,) what was made of each
    parts: NDArray[np.bool_]  # (n, h, w)


def pool(features: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, c), the mean over positions."""
    return features.mean(dim=(2, 3))


def see_images(backbone: Backbone, batch: Batch, random: np.random.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """One vector per image (n, c), and its class (n,)."""
    device = next(backbone.module().parameters()).device
    features = pool(backbone.features(to_tensor(batch.images).to(device)))
    return features, torch.from_numpy(batch.classes).to(device)


def see_cells(backbone: Backbone, batch: Batch, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One vector per cell of stride 8 (m, c), and its class (m,): all that a defect changed, and as many normal ones.

    Cells that are not on the part, or that a defect only touches, are left out.
    """
    device = next(backbone.module().parameters()).device
    joined = join_levels(backbone.levels(to_tensor(batch.images).to(device)))
    grid = (int(joined.shape[2]), int(joined.shape[3]))
    kinds = np.stack([_classify_cells(batch, number, grid) for number in range(len(batch.images))]).reshape(-1)
    defective, normal = np.flatnonzero(kinds > NORMAL), np.flatnonzero(kinds == NORMAL)
    count = min(len(normal), max(len(defective), _FEWEST_NORMAL))
    chosen = np.concatenate([defective, random.choice(normal, count, replace=False)])
    vectors = joined.permute(0, 2, 3, 1).reshape(len(kinds), -1)
    return vectors[torch.from_numpy(chosen).to(device)], torch.from_numpy(kinds[chosen]).to(device)


def _classify_cells(batch: Batch, number: int, grid: tuple[int, int]) -> NDArray[np.int64]:
    """(rows, columns) the class of every cell of one image; -1 where it has none."""
    difference = cv2.absdiff(batch.images[number], batch.originals[number]).max(axis=2) > _CHANGED
    share = cv2.resize(difference.astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    kinds = np.where(share > _DEFECTIVE_SHARE, batch.classes[number], np.where(share > 0, -1, NORMAL))
    return np.asarray(np.where(shrink_mask(batch.parts[number], grid), kinds, -1), dtype=np.int64)
