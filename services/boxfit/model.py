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
from numpy.typing import NDArray

from services.boxfit.bayesian import fit_bayesian
from services.boxfit.exact import fit_exact
from services.boxfit.fit import Box, Fit, Map
from services.boxfit.tight import fit_tight
from services.runtime.errors import InvalidArgument

__all__ = [
    "Box",
    "Fit",
    "FitOptions",
    "FitTask",
    "Map",
    "Method",
    "fit_box",
    "fit_task",
    "fit_tasks",
    "threshold_map",
    "warm_up",
]

Heat = NDArray[np.float32]  # (h, w), >= 0
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


@dataclass(frozen=True)
class FitOptions:
    """How to search, checked once made.

    Attributes:
        method: how.
        threshold: a soft map becomes binary at this fraction of its maximum, 0 < threshold < 1.
        max_iterations: BAYESIAN only: boxes after the random ones, 1 to 200.
        seed: BAYESIAN only.

    Raises:
        InvalidArgument: a value is outside of its range.
    """

    method: Method = Method.EXACT
    threshold: float = DEFAULT_THRESHOLD
    max_iterations: int = DEFAULT_MAX_ITERATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
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


def fit_task(task: FitTask, search: Search = fit_bayesian) -> Fit:
    """Resize and threshold the map where it is soft, then fit. Raises InvalidArgument as `fit_box` does."""
    return fit_box(_binarise(task), task.options, search)


def fit_tasks(tasks: list[FitTask], search: Search = fit_bayesian) -> list[Fit | Exception]:
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
    fit_exact(np.ones((2, 2), dtype=np.bool_))


def _try_task(task: FitTask, search: Search) -> Fit | Exception:
    try:
        return fit_task(task, search)
    except Exception as error:  # noqa: BLE001 it belongs to this task's caller
        return error


def _binarise(task: FitTask) -> Map:
    if task.map_.dtype == np.bool_:
        return task.map_.astype(np.bool_, copy=False)
    heat = np.asarray(task.map_, dtype=np.float32)
    if task.size is not None and task.size != heat.shape[::-1]:
        # The grid covers the whole image, so cells and pixels share their outer corners; that is OpenCV's convention.
        heat = np.asarray(cv2.resize(heat, task.size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return threshold_map(heat, task.options.threshold)


def _check_threshold(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise InvalidArgument("options.threshold", f"must be between 0 and 1, exclusive, is {fraction}")
