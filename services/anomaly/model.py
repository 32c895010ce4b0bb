"""A detector: an engine that embeds, a bank of normal items by category, a threshold for each from normals alone."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.anomaly.engines.engine import Embedding, Judgement
from services.anomaly.frames import Box, Placement, bound_hot_spot, lay_out_heatmap, resize, to_tensor
from services.anomaly.snapshot import Snapshot
from services.anomaly.threshold import Standard, compute_p_value
from services.anomaly.training import Model
from services.runtime.errors import InvalidArgument, NotFound

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
    category: str  # that it was judged as
    bank_version: int


@dataclass(frozen=True)
class Detector:
    """Judges one image at a time: the network always runs on a batch of one, so nothing that shares it can matter."""

    model: Model
    normals: Snapshot
    standards: Mapping[str, Standard] | None
    """By category; None before it is calibrated."""

    device: torch.device

    def contribute_item(self, image: NDArray[np.generic]) -> Embedding:
        """What `image` adds to the bank when it is enrolled; see `Framing.cut` for what it must be."""
        return self.model.engine.contribute(self._embed(image)[1])

    def measure(self, image: NDArray[np.generic], exclude: AbstractSet[str] = frozenset()) -> float:
        """The score of `image`, compared with normal items that are not in `exclude`; see `assign`."""
        return self.assign(image, exclude)[1]

    def assign(
        self, image: NDArray[np.generic], exclude: AbstractSet[str] = frozenset(), category: str | None = None
    ) -> tuple[str, float]:
        """The category that `image` is judged as, and its score there, compared with normal items not in `exclude`.

        Args:
            image: see `score_image`.
            exclude: item ids.
            category: None: the one in which it scores lowest, of several the first by name.

        Raises:
            FailedPrecondition: BANK_EMPTY.
            NotFound: an unknown category.
        """
        names = self._list_categories(category)
        name, judgement = self._judge(self._embed(image)[1], names, exclude)
        return name, judgement.score

    def find_standard(self, category: str) -> Standard | None:
        """What images of a category are held against; None before that is calibrated."""
        return (self.standards or {}).get(category)

    def score_image(
        self,
        image: NDArray[np.generic],
        placement: Placement | None = None,
        heatmap_side: int = 0,
        category: str | None = None,
    ) -> Verdict:
        """Judge an image.

        Args:
            image: (h, w), (h, w, 3) or (h, w, 4); prepared where the detector was trained on prepared images.
            placement: how it was prepared; None: it is the image as sent.
            heatmap_side: cells along the longer side of the heat map over the image as sent; 0 for none.
            category: see `assign`.

        Raises:
            FailedPrecondition: BANK_EMPTY.
            InvalidArgument: no image, or one of another shape than the prepared ones.
            NotFound: an unknown category.
        """
        names = self._list_categories(category)
        tensor, embedding = self._embed(image)
        name, judgement = self._judge(embedding, names)
        standard = self.find_standard(name)
        is_anomalous = None if standard is None else judgement.score > standard.threshold.value
        placed = placement or Placement(np.eye(2, 3), (image.shape[0], image.shape[1]))
        heatmap = region = None
        if heatmap_side > 0 or is_anomalous:
            coarse = self.model.engine.locate(tensor, judgement)
            heatmap = lay_out_heatmap(coarse, self.model.framing, placed, heatmap_side) if heatmap_side > 0 else None
            region = self._find_region(coarse, placed) if is_anomalous else None
        return Verdict(
            score=judgement.score,
            is_anomalous=is_anomalous,
            threshold=None if standard is None else standard.threshold.value,
            p_value=None if standard is None else compute_p_value(judgement.score, standard.normal_scores),
            heatmap=heatmap,
            region=region,
            nearest_item=judgement.nearest_item,
            category=name,
            bank_version=self.normals.version,
        )

    def _list_categories(self, category: str | None) -> tuple[str, ...]:
        """Those that an image is compared with; refused before any work is done."""
        names = self.normals.categories or ("",)  # an empty bank refuses by itself
        if category is None or not self.normals.categories:
            return names
        if category not in names:
            raise NotFound("category", category)
        return (category,)

    def _judge(
        self, embedding: Embedding, names: tuple[str, ...], exclude: AbstractSet[str] = frozenset()
    ) -> tuple[str, Judgement]:
        """The lowest of the judgements as each category, of equal ones the first."""
        judged = [(name, self.model.engine.judge(embedding, self.normals.of(name), exclude)) for name in names]
        return min(judged, key=lambda each: each[1].score)

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
