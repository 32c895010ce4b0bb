"""Several objects in one map, their number unknown: each object's part of the map, one after the other.

COMPONENTS gives every peak of a soft map its basin (see `basins.py`), and of a binary map every connected component.
SUPPRESSION takes the best box of the whole map, blanks what is in it, and begins again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from services.boxfit.basins import label_basins
from services.boxfit.fit import Fit, Heat, Map
from services.runtime.errors import InvalidArgument

MAX_OBJECTS = 100
LEAST_SHARE = 0.4
LEAST_DIP = 0.2


class ObjectSearch(StrEnum):
    """How several objects are told apart."""

    COMPONENTS = "components"
    SUPPRESSION = "suppression"


@dataclass(frozen=True)
class ObjectOptions:
    """How many objects to look for and how, checked once made.

    Attributes:
        max_objects: most of them, 1 to 100; 1 takes the whole map for one object.
        search: how they are told apart.
        least_share: the least weight of an object beside that of the strongest, > 0 to 1. The weight is its peak, of a
            binary map's component its area; with SUPPRESSION the sum of the map in its box.
        least_dip: COMPONENTS of a soft map: what it must fall by between two peaks, as a fraction of the lower one, > 0
            to 1.

    Raises:
        InvalidArgument: a value is outside of its range.
    """

    max_objects: int = 1
    search: ObjectSearch = ObjectSearch.COMPONENTS
    least_share: float = LEAST_SHARE
    least_dip: float = LEAST_DIP

    def __post_init__(self) -> None:
        if not 1 <= self.max_objects <= MAX_OBJECTS:
            raise InvalidArgument("options.max_objects", f"must be 1 to {MAX_OBJECTS}, is {self.max_objects}")
        for name in ("least_share", "least_dip"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise InvalidArgument(f"options.{name}", f"must be over 0 and at most 1, is {value:g}")


ONE_OBJECT = ObjectOptions()


@dataclass(frozen=True)
class ObjectFit:
    """The box of one object; `share` is its weight beside that of the strongest, 0 to 1."""

    fit: Fit
    share: float


def fit_objects(map_: Map | Heat, options: ObjectOptions, fit: Callable[[Map | Heat], Fit]) -> tuple[ObjectFit, ...]:
    """Fit a box to each object of a map, (h, w), the strongest first.

    `fit` is given maps of the same kind and size with one object in each. Raises InvalidArgument as it does.
    """
    if options.max_objects == 1 or not (map_ > 0).any():
        return (ObjectFit(fit(map_), 1.0),)
    if options.search is ObjectSearch.SUPPRESSION:
        return tuple(_suppress(map_, options, fit))
    parts: Iterable[tuple[Map | Heat, float]]
    if map_.dtype == np.bool_:
        parts = _split_components(map_.view(np.bool_), options)
    else:
        parts = _split_basins(map_.view(np.float32), options)
    return tuple(ObjectFit(fit(part), share) for part, share in parts)


def _split_components(ones: Map, options: ObjectOptions) -> Iterator[tuple[Map, float]]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ones.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    for index in np.argsort(-areas, kind="stable")[: options.max_objects].tolist():
        share = float(areas[index] / areas.max())
        if share >= options.least_share:
            yield labels == index + 1, share


def _split_basins(heat: Heat, options: ObjectOptions) -> Iterator[tuple[Heat, float]]:
    peak = float(heat.max())
    # Below a hundredth of the maximum nothing is a part of anything; it only lets basins touch.
    labels = label_basins(heat, max(0.01 * peak, float(np.finfo(np.float32).tiny)), options.least_dip)
    for number in range(1, min(int(labels.max()), options.max_objects) + 1):
        part = np.where(labels == number, heat, np.float32(0))
        share = float(part.max()) / peak
        if share >= options.least_share:
            yield part, share


def _suppress(map_: Map | Heat, options: ObjectOptions, fit: Callable[[Map | Heat], Fit]) -> Iterator[ObjectFit]:
    left = map_.copy() if map_.dtype == np.bool_ else np.maximum(map_, np.float32(0))
    first = 0.0
    for _ in range(options.max_objects):
        found = fit(left)
        box = found.box
        inside = left[box.y_min : box.y_max, box.x_min : box.x_max]
        weight = float(inside.sum())
        first = first or weight
        if weight < options.least_share * first:
            return
        yield ObjectFit(found, min(1.0, weight / first))
        inside[...] = 0
        if not left.any():
            return
