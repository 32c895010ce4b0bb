"""A detector: an engine that embeds, a bank of normal items, a threshold from normals alone."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.anomaly.engines.engine import Embedding
from services.anomaly.frames import Box, Placement, bound_hot_spot, lay_out_heatmap, resize, to_tensor
from services.anomaly.snapshot import Snapshot
from services.anomaly.threshold import Threshold, compute_p_value
from services.anomaly.training import Model
from services.runtime.errors import InvalidArgument

_REGION_SIDE = 256  # cells along the longer side of the map that the region is found on, whatever was asked for


def choose_device(name: str) -> torch.device:
    """Where to compute: "auto" is a GPU if there is one, "cpu", "cuda", "cuda:N".

    Raises:
        InvalidArgument: a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidArgument("device", f"must be auto, cpu, cuda or cuda:N of this machine, is {name!r}") from error
    return device


@dataclass(frozen=True)
class Verdict:
    """What a detector says of an image."""

    score: float  # the higher, the less normal
    is_anomalous: bool | None  # None before the threshold is set
    threshold: float | None
    p_value: float | None
    heatmap: NDArray[np.float32] | None  # over the image as sent; None when it was not asked for
    region: Box | None  # in pixels of the image as sent; only where the image is anomalous
    nearest_item: str
    bank_version: int


@dataclass(frozen=True)
class Detector:
    """Judges one image at a time: the network always runs on a batch of one, so nothing that shares it can matter."""

    model: Model
    normals: Snapshot
    threshold: Threshold | None
    device: torch.device
    normal_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Those that the threshold was set from, ascending; needed for p-values alone."""

    def contribute_item(self, image: NDArray[np.generic]) -> Embedding:
        """What `image` adds to the bank when it is enrolled; see `Framing.cut` for what it must be."""
        return self.model.engine.contribute(self._embed(image)[1])

    def measure(self, image: NDArray[np.generic], exclude: AbstractSet[str] = frozenset()) -> float:
        """The score of `image`, compared with normal items that are not in `exclude`.

        Raises:
            FailedPrecondition: BANK_EMPTY.
        """
        return self.model.engine.judge(self._embed(image)[1], self.normals, exclude).score

    def score_image(
        self, image: NDArray[np.generic], placement: Placement | None = None, heatmap_side: int = 0
    ) -> Verdict:
        """Judge an image.

        Args:
            image: (h, w), (h, w, 3) or (h, w, 4); prepared where the detector was trained on prepared images.
            placement: how it was prepared; None: it is the image as sent.
            heatmap_side: cells along the longer side of the heat map over the image as sent; 0 for none.

        Raises:
            FailedPrecondition: BANK_EMPTY.
            InvalidArgument: no image, or one of another shape than the prepared ones.
        """
        tensor, embedding = self._embed(image)
        judgement = self.model.engine.judge(embedding, self.normals)
        is_anomalous = None if self.threshold is None else judgement.score > self.threshold.value
        placed = placement or Placement(np.eye(2, 3), (image.shape[0], image.shape[1]))
        heatmap = region = None
        if heatmap_side > 0 or is_anomalous:
            coarse = self.model.engine.locate(tensor, judgement)
            heatmap = lay_out_heatmap(coarse, self.model.framing, placed, heatmap_side) if heatmap_side > 0 else None
            region = self._find_region(coarse, placed) if is_anomalous else None
        value = None if self.threshold is None else self.threshold.value
        return Verdict(
            score=judgement.score,
            is_anomalous=is_anomalous,
            threshold=value,
            p_value=compute_p_value(judgement.score, self.normal_scores),
            heatmap=heatmap,
            region=region,
            nearest_item=judgement.nearest_item,
            bank_version=self.normals.version,
        )

    def _embed(self, image: NDArray[np.generic]) -> tuple[Tensor, Embedding]:
        pixels = self.model.framing.cut(image)
        shape = self.model.engine.choose_input_shape(pixels.shape[:2])
        tensor = to_tensor(resize(pixels, shape)).to(self.device)
        return tensor, self.model.engine.embed(tensor, self.model.framing.cut_mask())

    def _find_region(self, coarse: NDArray[np.float32], placement: Placement) -> Box | None:
        """The hottest region, in pixels of the image as sent."""
        heatmap = lay_out_heatmap(coarse, self.model.framing, placement, _REGION_SIDE)
        spot = bound_hot_spot(heatmap)
        if spot is None:
            return None
        height, width = placement.shape
        x, y = width / heatmap.shape[1], height / heatmap.shape[0]
        # Outwards to whole pixels, and at least one of them.
        x0, y0 = int(spot.x0 * x), int(spot.y0 * y)
        x1, y1 = min(width, int(np.ceil(spot.x1 * x))), min(height, int(np.ceil(spot.y1 * y)))
        return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
