"""How an image is brought to a reference: one protocol, one file a method."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from services.codec.geometry import IDENTITY, Affine, Mask

Image = NDArray[np.uint8]  # (h, w) or (h, w, 3)
Transform = Literal["rigid", "similarity", "affine"]
"""What a map may do: turn and shift; scale as well; stretch and shear as well."""

LEAST_OVERLAP = 0.6
"""IoU of the aligned mask with the reference's below which an image counts as unaligned."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """How an image lies to the reference.

    Attributes:
        affine: (2, 3), from the image's pixels to the reference's; the identity when it did not align.
        aligned: whether it can be trusted.
        score: IoU of the warped mask with the reference's, 0 to 1.
        reason: why it did not align; empty when it did.
    """

    affine: Affine
    aligned: bool
    score: float
    reason: str


class Aligner(Protocol):
    """Knows a reference and brings images to it. Safe to use from several threads."""

    def align(self, image: Image, mask: Mask) -> Alignment:
        """Finds the map from an image to the reference, given the part's mask; never raises for want of a match."""
        ...


def refuse(reason: str, score: float = 0.0) -> Alignment:
    """Returns the alignment of an image that did not align."""
    return Alignment(IDENTITY, aligned=False, score=score, reason=reason)


def judge(affine: Affine, score: float) -> Alignment:
    """Returns the alignment of a map that was found, aligned if the masks overlap enough."""
    if score < LEAST_OVERLAP:
        return refuse(f"its outline overlaps the reference's by {score:.2f}, less than {LEAST_OVERLAP:.2f}", score)
    return Alignment(affine, aligned=True, score=score, reason="")
