"""Engine `metric`, recipe `original`: one vector per image, of a network that learned to see made-up defects."""

from collections.abc import Set as AbstractSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from services.anomaly.backbones import Backbone
from services.anomaly.engines.engine import Embedding, Judgement, Layout, NormalItems
from services.anomaly.engines.examples import pool
from services.anomaly.engines.losses import MetricLoss
from services.anomaly.frames import fit_area

_NEIGHBOURS = 20  # scikit-learn's default; Breunig et al. 2000 (section 7.1) advise at least 10


class MetricEngine:
    """Deep metric learning over normal, line and distortion; the distance to the nearest normal, or LOF.

    image -> backbone -> mean over positions -> unit vector; Grad-CAM of the made-up classes shows where
    """

    def __init__(self, backbone: Backbone, head: MetricLoss, input_side_px: int, *, by_outlier_factor: bool) -> None:
        self._backbone = backbone
        self._head = head
        self._input_side_px = input_side_px
        self._by_outlier_factor = by_outlier_factor
        self.layout = Layout("cosine", backbone.channels)

    def choose_input_shape(self, frame: tuple[int, int]) -> tuple[int, int]:
        """See `Engine`: as many pixels as a square of the given side, the aspect ratio stays."""
        return fit_area(frame, self._input_side_px)

    def embed(self, image: Tensor, mask: NDArray[np.bool_] | None) -> Embedding:  # noqa: ARG002 - the image as a whole
        """See `Engine`: one unit vector."""
        with torch.inference_mode():
            vector = functional.normalize(pool(self._backbone.features(image)))
        return Embedding(vector.half().cpu().numpy(), np.zeros(1, dtype=np.int32), (1, 1))

    def contribute(self, embedding: Embedding) -> Embedding:
        """See `Engine`: the vector."""
        return embedding

    def prepare(self, normals: NormalItems) -> None:
        """See `Engine`: fits the local outlier factor where that is the score."""
        if self._by_outlier_factor:
            normals.remember(_fit_outlier_factor)

    def judge(self, embedding: Embedding, normals: NormalItems, exclude: AbstractSet[str] = frozenset()) -> Judgement:
        """See `Engine`: 1 - the largest cosine to a normal item, or the local outlier factor."""
        neighbours = normals.nearest(embedding.vectors, embedding.cells, exclude)
        # Of unit vectors, 1 - cosine is half the squared distance, which unlike the cosine is exactly 0 for equal ones.
        score = float(neighbours.distances[0]) ** 2 / 2
        if self._by_outlier_factor:
            score = normals.remember(_fit_outlier_factor, exclude).measure(embedding.vectors)
        return Judgement(score, neighbours.items[0])

    def locate(self, image: Tensor, judgement: Judgement) -> NDArray[np.float32]:  # noqa: ARG002 - asks the network
        """See `Engine`: Grad-CAM, the largest over the made-up classes, in shares of the largest that each reaches."""
        return compute_grad_cam(self._backbone, self._head, image)


class OutlierFactor:
    """Local outlier factor among `normals` (n, d); about 1 for an inlier (Breunig et al. 2000)."""

    def __init__(self, normals: NDArray[np.float16]) -> None:
        from sklearn.neighbors import LocalOutlierFactor  # noqa: PLC0415 - slow to import, and most never need it

        self._normals = normals.astype(np.float64)
        self._factor = LocalOutlierFactor(n_neighbors=max(1, min(_NEIGHBOURS, len(normals) - 1)), novelty=True)
        if len(normals) > 1:
            self._factor.fit(self._normals)

    def measure(self, vectors: NDArray[np.float16]) -> float:
        """The factor of the vector (1, d); of a single normal there is no density, so 1 and the distance to it."""
        if len(self._normals) == 1:
            return 1.0 + float(np.linalg.norm(vectors - self._normals))
        return float(-self._factor.score_samples(vectors.astype(np.float64))[0])


def _fit_outlier_factor(normals: NormalItems, exclude: AbstractSet[str]) -> OutlierFactor:
    return OutlierFactor(normals.all_vectors(exclude))


def compute_grad_cam(backbone: Backbone, head: MetricLoss, image: Tensor) -> NDArray[np.float32]:
    """Where the made-up classes see themselves: (rows, columns), 0 to 1.

    Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1 and 2) of every class but normal, on the last feature map. Gradients
    are asked for, not caught by hooks, so that calls in several threads do not meet.
    """
    with torch.no_grad():
        features = backbone.features(image)
    features = features.detach().requires_grad_()
    logits = head.logits(pool(features))[0]
    maps = []
    for logit in logits[1:]:
        (gradient,) = torch.autograd.grad(logit, features, retain_graph=True)
        cam = (pool(gradient)[:, :, None, None] * features).sum(dim=1)[0].detach().relu()
        maps.append(cam / cam.max().clamp(min=1e-12))
    return np.asarray(torch.stack(maps).amax(dim=0).cpu().numpy(), dtype=np.float32)
