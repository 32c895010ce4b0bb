"""The box search of the original tool: Bayesian optimisation of the IoU (GPyOpt), kept as the named baseline.

A Gaussian process models the IoU over the box's four corner coordinates, 20 random boxes to begin with; each further
box is the one with the highest expected improvement (Snoek, Larochelle and Adams, NIPS 2012).
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.boxfit.fit import Box, Fit, Map, check_map, measure_fit

INITIAL_BOXES = 20

# GPyOpt draws from numpy's global generator and sets warning filters: one at a time, and both are put back.
_ALONE = threading.Lock()


def fit_bayesian(ones: Map, max_iterations: int = 10, seed: int = 0) -> Fit:
    """Search by `INITIAL_BOXES` random boxes and `max_iterations` chosen ones; the same seed gives the same box.

    One search runs at a time. While it runs, other threads that draw from numpy's *global* generator, as nothing of
    ours does, would share its stream; the generator's state is restored afterwards.

    Args:
        ones: the binary map, (h, w) bool.
        max_iterations: boxes after the random ones. GPyOpt ends earlier when it would try the same box again.
        seed: taken modulo 2^32.

    Raises:
        InvalidArgument: see `check_map`.
    """
    check_map(ones)
    if ones.size == 1:  # one box, nothing to search
        return measure_fit(ones, Box(0, 0, 1, 1), evaluations=1, optimal=False)
    with _ALONE, _quiet(), _seeded(seed):
        search = import_gpyopt().methods.BayesianOptimization(
            f=_loss_over(ones), domain=_list_variables(ones), initial_design_numdata=INITIAL_BOXES
        )
        search.run_optimization(max_iter=max_iterations)
    best = search.X[np.argmin(search.Y[:, 0])]
    return measure_fit(ones, _span_box(best, ones.shape), evaluations=len(search.Y), optimal=False)


def _list_variables(ones: Map) -> list[dict[str, object]]:
    """Columns of two corners, then their rows; an axis with a single place is no variable."""
    height, width = ones.shape
    sizes = [("x_1", width), ("x_2", width), ("y_1", height), ("y_2", height)]
    return [{"name": name, "type": "discrete", "domain": tuple(range(size))} for name, size in sizes if size > 1]


def _loss_over(ones: Map) -> Callable[[NDArray[np.float64]], float]:
    """Return the loss of a row of variables, minus the IoU of the box they span."""
    total = int(np.count_nonzero(ones))

    def lose(rows: NDArray[np.float64]) -> float:
        box = _span_box(rows[0], ones.shape)
        inside = int(np.count_nonzero(ones[box.y_min : box.y_max, box.x_min : box.x_max]))
        return -inside / (total + box.area - inside)

    return lose


def _span_box(variables: NDArray[np.float64], shape: tuple[int, ...]) -> Box:
    """The smallest box that holds both corner pixels, in whichever order they come."""
    height, width = shape
    places = [round(value) for value in variables.tolist()]
    columns = [places.pop(0), places.pop(0)] if width > 1 else [0]
    rows = places if height > 1 else [0]
    return Box(min(columns), min(rows), max(columns) + 1, max(rows) + 1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Numpy's global generator, seeded, and as it was before at the end."""
    state = np.random.get_state()  # noqa: NPY002 GPyOpt draws from nothing else
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and afterwards the filters of before: importing GPyOpt switches all warnings of the process off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_gpyopt() -> Any:  # noqa: ANN401 GPyOpt has no types
    """Import on first use: it brings GPy and matplotlib and takes seconds."""
    with _quiet():
        return import_module("GPyOpt")
