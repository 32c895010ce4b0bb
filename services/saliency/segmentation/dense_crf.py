"""Scores brought to the edges of the image, by a fully connected CRF (Krähenbühl and Koltun, NIPS 2011)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[
    np.uint8
]  # (h, w, 3); not that of `pictures`, which would bring torch into the CRF's own processes
Scores = npt.NDArray[np.float32]  # (k, h, w), probabilities


@dataclass(frozen=True)
class Edges:
    """What neighbours are: the defaults are SEC's, and mean an image of 321 pixels.

    Attributes:
        smoothness_px: how far positions feel each other whatever they look like.
        smoothness_weight: and how much.
        likeness_px: how far positions feel each other that look alike.
        likeness_weight: and how much.
        likeness_grey_levels: what looks alike, of 255, in each of red, green and blue.
        iterations: of mean-field inference.
    """

    smoothness_px: float = 3.0
    smoothness_weight: float = 3.0
    likeness_px: float = 80.0
    likeness_weight: float = 10.0
    likeness_grey_levels: float = 13.0
    iterations: int = 10


PAPER_SIDE_PX = 321
_LEAST_SCORE = 1e-5


def apply_crf(scores: Scores, picture: Pixels, edges: Edges | None = None) -> Scores:
    """Returns the scores after mean-field inference, (k, h, w) float32, adding up to 1 at every position.

    Args:
        scores: probabilities, (k, h, w).
        picture: what they are of, (h, w, 3); distances are scaled from the paper's image to its longer side.
        edges: what neighbours are.
    """
    from pydensecrf.densecrf import DenseCRF2D  # noqa: PLC0415 - whoever never segments does without it

    chosen = edges or Edges()
    labels, height, width = scores.shape
    scale = max(height, width) / PAPER_SIDE_PX
    field = DenseCRF2D(width, height, labels)
    unary = -np.log(np.clip(scores, _LEAST_SCORE, 1)).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    field.addPairwiseGaussian(sxy=chosen.smoothness_px * scale, compat=chosen.smoothness_weight)
    field.addPairwiseBilateral(
        sxy=chosen.likeness_px * scale,
        srgb=chosen.likeness_grey_levels,
        rgbim=np.require(picture, requirements=["C", "W"]),  # pictures may be a read-only memory map
        compat=chosen.likeness_weight,
    )
    inferred = np.asarray(field.inference(chosen.iterations), np.float32)
    return inferred.reshape(labels, height, width)
