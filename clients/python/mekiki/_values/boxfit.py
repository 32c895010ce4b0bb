"""What boxfit takes and gives: boxes fitted to maps, and to images by way of an explanation."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mekiki._values.annotation import Annotation, Box, ModelRef
from mekiki._values.image import Heatmap, to_heatmap, to_mask
from mekiki._values.word import number_of
from mekiki.boxfit.v1 import boxfit_pb2

MapLike: TypeAlias = "NDArray[Any] | Heatmap"
"""A binary map, (h, w) bool, or a soft one, (h, w) of floats >= 0."""


class FitMethod(StrEnum):
    """How a box is searched."""

    EXACT = "exact"
    """The provably best box."""

    BAYESIAN = "bayesian"
    """Bayesian optimisation, as in the original tool."""

    TIGHT = "tight"
    """The tight box of the largest connected component."""

    SOFT = "soft"
    """The provably best box of a soft map, without a threshold."""


class ForegroundUse(StrEnum):
    """Whether a box ends where what stands out from the image's rim does, instead of where the map does."""

    ALWAYS = "always"
    PLAIN_GROUND = "plain_ground"
    """Where the rim is of one colour and what stands out is far from it; a box at most doubles its area."""

    NEVER = "never"
    """The map alone says where a box ends."""


class ObjectSearch(StrEnum):
    """How several objects in one map are told apart."""

    COMPONENTS = "components"
    """One object per peak that stands out; of a binary map, per connected component."""

    SUPPRESSION = "suppression"
    """The best box is found, what is in it is blanked, and the search begins again."""


@dataclass(frozen=True)
class FitOptions:
    """How to search. None takes the service's default."""

    method: FitMethod = FitMethod.EXACT
    threshold: float | None = None
    """A soft map becomes binary at this fraction of its maximum, 0 < threshold < 1; default 0.3."""

    max_iterations: int | None = None
    """Bayesian only: steps after the initial design, 1 to 200; default 10."""

    seed: int = 0
    """Bayesian only."""

    max_objects: int | None = None
    """Most objects to look for, 1 to 100; default 1: the whole map is one object."""

    object_search: ObjectSearch = ObjectSearch.COMPONENTS
    least_share: float | None = None
    """Several objects: the least weight of one beside that of the strongest, > 0 to 1; default 0.4."""

    least_dip: float | None = None
    """Components of a soft map: what it must fall by between two peaks, a fraction of the lower one; default 0.2."""

    def to_proto(self) -> boxfit_pb2.FitOptions:
        """For the wire."""
        return boxfit_pb2.FitOptions(
            method=number_of(boxfit_pb2.FitMethod, self.method),
            threshold=self.threshold,
            max_iterations=self.max_iterations,
            seed=self.seed,
            max_objects=self.max_objects,
            object_search=number_of(boxfit_pb2.ObjectSearch, self.object_search),
            least_share=self.least_share,
            least_dip=self.least_dip,
        )


DEFAULT_FIT = FitOptions()


def to_fit_request(map_: MapLike, options: FitOptions) -> boxfit_pb2.FitBoxRequest:
    """A map to fit, for the wire.

    Raises:
        TypeError: for an array that is neither bool nor of floats.
        ValueError: for an array of another shape than (h, w).
    """
    values = map_.values if isinstance(map_, Heatmap) else map_
    if values.dtype == np.bool_:
        return boxfit_pb2.FitBoxRequest(mask=to_mask(values), options=options.to_proto())
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"a map's dtype must be bool (binary) or a float (soft), not {values.dtype}")
    return boxfit_pb2.FitBoxRequest(heatmap=to_heatmap(values), options=options.to_proto())


@dataclass(frozen=True)
class FittedBox:
    """One of several objects in a map."""

    box: Box
    """In pixels of the map."""

    iou: float
    """With its own object's part of the binary map, 0 to 1."""

    optimal: bool
    """It is proven that no box has a higher IoU with that part."""

    @classmethod
    def from_proto(cls, fitted: boxfit_pb2.FittedBox) -> Self:
        """From the wire."""
        return cls(Box.from_proto(fitted.box), fitted.iou, fitted.optimal)


@dataclass(frozen=True)
class BoxFit:
    """The box that holds a map."""

    box: Box
    """In pixels of the map."""

    iou: float
    """With the binary map, 0 to 1."""

    optimal: bool
    """It is proven that no box has a higher IoU."""

    evaluations: int
    """Rounds of the search (exact, soft), boxes tried (bayesian) or components seen (tight)."""

    others: tuple[FittedBox, ...] = ()
    """The other objects where several were looked for, best first."""

    @classmethod
    def from_proto(cls, response: boxfit_pb2.FitBoxResponse) -> Self:
        """From the wire."""
        others = tuple(map(FittedBox.from_proto, response.others))
        return cls(Box.from_proto(response.box), response.iou, response.optimal, response.evaluations, others)


@dataclass(frozen=True)
class AnnotatedImage:
    """Boxes proposed for an image."""

    annotations: tuple[Annotation, ...]
    """Best first; their boxes are in pixels of the image as sent."""

    model: ModelRef
    """The classifier that explained the image."""

    image_width: int
    image_height: int

    @classmethod
    def from_proto(cls, response: boxfit_pb2.AnnotateImageResponse) -> Self:
        """From the wire."""
        return cls(
            annotations=tuple(map(Annotation.from_proto, response.annotations)),
            model=ModelRef.from_proto(response.model),
            image_width=response.image_width,
            image_height=response.image_height,
        )


@dataclass(frozen=True)
class AnnotatedDataset:
    """What AnnotateDataset did."""

    annotated_count: int
    """Items that got a proposal."""

    skipped_count: int
    """Items left alone: a person had accepted a box, or their label is skipped."""

    needs_review_count: int
    """Items whose proposal is marked for a person."""

    failures: Mapping[str, str]
    """Items that failed, each with the reason."""

    @classmethod
    def from_proto(cls, response: boxfit_pb2.AnnotateDatasetResponse) -> Self:
        """From the wire."""
        return cls(
            annotated_count=response.annotated_count,
            skipped_count=response.skipped_count,
            needs_review_count=response.needs_review_count,
            failures=MappingProxyType({failure.item_id: failure.reason for failure in response.failures}),
        )
