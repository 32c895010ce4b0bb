"""Boxfit's face: a map in, a box out."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np

from services.boxfit.bayesian import fit_bayesian
from services.boxfit.exact import fit_exact, fit_soft
from services.boxfit.fit import Box, Fit, Heat, Map
from services.boxfit.objects import ONE_OBJECT, ObjectFit, ObjectOptions, fit_objects
from services.boxfit.tight import fit_tight
from services.runtime.errors import InvalidArgument

__all__ = [
    "Box",
    "Fit",
    "FitOptions",
    "FitTask",
    "Heat",
    "Map",
    "Method",
    "ObjectFit",
    "ObjectOptions",
    "fit_box",
    "fit_task",
    "fit_tasks",
    "threshold_map",
    "warm_up",
]

Search = Callable[[Map, int, int], Fit]
"""A Bayesian search, such as `fit_bayesian`: map, iterations, seed."""

DEFAULT_THRESHOLD = 0.3
DEFAULT_MAX_ITERATIONS = 10
MAX_ITERATIONS_LIMIT = 200
_PREBUILT = Path(__file__).parents[2] / "compiled"  # in an image


class Method(StrEnum):
    """How a box is searched."""

    EXACT = "exact"
    BAYESIAN = "bayesian"
    TIGHT = "tight"
    SOFT = "soft"


@dataclass(frozen=True)
class FitOptions:
    """How to search, checked once made.

    Attributes:
        method: how.
        threshold: a soft map becomes binary at this fraction of its maximum, 0 < threshold < 1.
        max_iterations: BAYESIAN only: boxes after the random ones, 1 to 200.
        seed: BAYESIAN only.
        objects: how many objects there may be and how they are told apart.

    Raises:
        InvalidArgument: a value is outside of its range.
    """

    method: Method = Method.EXACT
    threshold: float = DEFAULT_THRESHOLD
    max_iterations: int = DEFAULT_MAX_ITERATIONS
    seed: int = 0
    objects: ObjectOptions = ONE_OBJECT

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        if self.method is Method.BAYESIAN and self.objects.max_objects > 1:
            raise InvalidArgument("options.max_objects", f"BAYESIAN finds one, is {self.objects.max_objects}")
        if not 1 <= self.max_iterations <= MAX_ITERATIONS_LIMIT:
            raise InvalidArgument(
                "options.max_iterations", f"must be 1 to {MAX_ITERATIONS_LIMIT}, is {self.max_iterations}"
            )


@dataclass(frozen=True, eq=False)
class FitTask:
    """A map to fit.

    Attributes:
        map_: (h, w); binary if bool, else soft.
        options: how to search.
        size: (width, height) that a soft map is resized to before it becomes binary; None keeps its own.
    """

    map_: Map | Heat
    options: FitOptions
    size: tuple[int, int] | None = None


def fit_box(ones: Map, options: FitOptions | None = None, search: Search = fit_bayesian) -> Fit:
    """Fit one box to a binary map, (h, w) bool, by default exactly.

    Args:
        ones: the map.
        options: how.
        search: what BAYESIAN runs.

    Raises:
        InvalidArgument: the map is empty, not boolean, not two-dimensional or too large.
    """
    options = options or FitOptions()
    match options.method:
        case Method.EXACT:
            return fit_exact(ones)
        case Method.BAYESIAN:
            return search(ones, options.max_iterations, options.seed)
        case Method.TIGHT:
            return fit_tight(ones)
        case Method.SOFT:
            return fit_soft(ones.astype(np.float32))


def threshold_map(heat: Heat, fraction: float = DEFAULT_THRESHOLD) -> Map:
    """Return where a soft map, (h, w) float32, reaches `fraction` of its maximum; nowhere if that is not positive.

    The original tool's step from heat map to binary map, with its default.

    Raises:
        InvalidArgument: the map is not two-dimensional or not finite, or the fraction not within 0 and 1.
    """
    _check_threshold(fraction)
    if heat.ndim != 2 or heat.size == 0 or not np.isfinite(heat).all():
        raise InvalidArgument("map", f"must be a finite (h, w) array, is {heat.dtype} of shape {heat.shape}")
    highest = float(heat.max())
    ones: Map = heat >= np.float32(fraction * highest)
    return ones if highest > 0 else np.zeros_like(ones)


def fit_task(task: FitTask, search: Search = fit_bayesian) -> tuple[ObjectFit, ...]:
    """Resize the map where it is soft, and fit a box to each object, the strongest first; one at least.

    A soft map is made binary at the threshold by the peak of each object. Raises InvalidArgument as `fit_box` does.
    """
    options = task.options

    def fit(map_: Map | Heat) -> Fit:
        if map_.dtype == np.bool_:
            return fit_box(map_.view(np.bool_), options, search)
        heat = map_.view(np.float32)
        if options.method is Method.SOFT:
            return fit_soft(heat)
        return fit_box(threshold_map(heat, options.threshold), options, search)

    return fit_objects(_resize(task), options.objects, fit)


def fit_tasks(tasks: list[FitTask], search: Search = fit_bayesian) -> list[tuple[ObjectFit, ...] | Exception]:
    """Fit each task by itself; one that fails gives its exception and leaves the others alone."""
    return [_try_task(task, search) for task in tasks]


def warm_up() -> None:
    """Compile the exact search (or load it from numba's cache), so that the first caller does not wait for it.

    An image holds it compiled; numba reads no cache that it cannot write to, so it is copied to where it can.
    """
    cache = os.environ.get("NUMBA_CACHE_DIR")
    if cache and _PREBUILT.is_dir():
        with suppress(OSError):  # then it is compiled here
            shutil.copytree(_PREBUILT, cache, dirs_exist_ok=True)
    heat = np.ones((2, 2), dtype=np.float32)
    fit_task(FitTask(heat, FitOptions(objects=ObjectOptions(max_objects=2))))


def _try_task(task: FitTask, search: Search) -> tuple[ObjectFit, ...] | Exception:
    try:
        return fit_task(task, search)
    except Exception as error:  # noqa: BLE001 it belongs to this task's caller
        return error


def _resize(task: FitTask) -> Map | Heat:
    if task.map_.dtype == np.bool_:
        return task.map_
    heat = np.asarray(task.map_, dtype=np.float32)
    if heat.ndim != 2 or heat.size == 0 or not np.isfinite(heat).all():
        raise InvalidArgument("map", f"must be a finite (h, w) array, is {heat.dtype} of shape {heat.shape}")
    if task.size is None or task.size == heat.shape[::-1]:
        return heat
    # The grid covers the whole image, so cells and pixels share their outer corners; that is OpenCV's convention.
    return np.asarray(cv2.resize(heat, task.size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _check_threshold(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise InvalidArgument("options.threshold", f"must be between 0 and 1, exclusive, is {fraction}")
