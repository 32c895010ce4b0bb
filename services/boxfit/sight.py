"""From a heat map to the boxes of an image, each with how far other ways of looking at it agree.

    map → objects → boxes → foreground or not → growth
    maps of single views, other thresholds, no threshold → boxes → foreground or not → agreement

A box is sure when it does not depend on how it was come by: on the scale the network looked at, on left and right, on
the threshold. Its agreement is the mean, over all other ways, of the IoU with the nearest box that they find.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.boxfit.bayesian import fit_bayesian
from services.boxfit.fit import Box, Heat
from services.boxfit.foreground import Foreground, ForegroundUse, refine_box, segment_foreground
from services.boxfit.growth import NO_GROWTH, Growth, grow_box, measure_iou
from services.boxfit.model import FitOptions, FitTask, Method, Search, fit_task

_THRESHOLD_FACTORS = (2 / 3, 3 / 2)
_HIGHEST_THRESHOLD = 0.95


@dataclass(frozen=True, eq=False)
class Sight:
    """What is known of one image.

    Attributes:
        heat: the map, on any grid over the whole image; positive somewhere.
        views: the maps that it is the average of.
        size: (width, height) of the image, pixels.
        options: how boxes are searched.
        growth: what is done to each box.
        image: the pixels; None where they are not looked at.
        use: what is made of what stands out in the image.
    """

    heat: Heat
    views: tuple[Heat, ...]
    size: tuple[int, int]
    options: FitOptions
    growth: Growth = NO_GROWTH
    image: NDArray[np.generic] | None = None
    use: ForegroundUse = ForegroundUse.NEVER


@dataclass(frozen=True)
class Sighting:
    """A box in an image; `iou` with its part of the map, `share` of the strongest one's weight, `agreement`: 0 to 1."""

    box: Box
    iou: float
    share: float
    agreement: float


def find_boxes(sight: Sight, search: Search = fit_bayesian) -> tuple[Sighting, ...]:
    """Find the boxes of an image, the strongest object's first; `search` is what BAYESIAN runs, once.

    Raises:
        InvalidArgument: the map is nowhere positive.
    """
    found = fit_task(FitTask(sight.heat, sight.options, sight.size), search)
    foreground = None if sight.image is None else segment_foreground(sight.image)
    others = [[_refine(box, sight, foreground) for box in fit_boxes(*way, sight.size)] for way in _list_ways(sight)]
    sightings: dict[Box, Sighting] = {}
    for one in found:
        box = _refine(one.fit.box, sight, foreground)
        agreement = float(np.mean([max(measure_iou(box, other) for other in boxes) for boxes in others]))
        grown = grow_box(box, sight.growth, sight.size)
        sightings.setdefault(grown, Sighting(grown, one.fit.iou, one.share, agreement))  # two peaks, one thing
    return tuple(sightings.values())


def _refine(box: Box, sight: Sight, foreground: Foreground | None) -> Box:
    return box if foreground is None else refine_box(foreground, box, sight.size, sight.use)


def find_all_boxes(sights: list[Sight], search: Search = fit_bayesian) -> list[tuple[Sighting, ...] | Exception]:
    """Look at each image by itself; one that fails gives its exception and leaves the others alone."""
    return [_try_sight(sight, search) for sight in sights]


def _try_sight(sight: Sight, search: Search) -> tuple[Sighting, ...] | Exception:
    try:
        return find_boxes(sight, search)
    except Exception as error:  # noqa: BLE001 it belongs to this image's caller
        return error


def fit_boxes(heat: Heat, options: FitOptions, size: tuple[int, int]) -> tuple[Box, ...]:
    """Give the boxes alone, of a map that is positive somewhere."""
    return tuple(one.fit.box for one in fit_task(FitTask(heat, options, size)))


def _list_ways(sight: Sight) -> Iterator[tuple[Heat, FitOptions]]:
    """Other ways to look at the same image; all quick."""
    options = sight.options
    if options.method is Method.BAYESIAN:
        options = replace(options, method=Method.EXACT)
    if len(sight.views) > 1:
        yield from ((view, options) for view in sight.views if view.any())
    yield sight.heat, replace(options, method=Method.EXACT if options.method is Method.SOFT else Method.SOFT)
    if options.method is not Method.SOFT:
        for factor in _THRESHOLD_FACTORS:
            yield sight.heat, replace(options, threshold=min(_HIGHEST_THRESHOLD, factor * options.threshold))
