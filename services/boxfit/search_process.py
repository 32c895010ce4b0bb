"""Bayesian searches in a process of their own: GPyOpt holds the interpreter for seconds, and health must answer."""

import numpy as np

from services.boxfit.fit import Box, Fit, Map, check_map, measure_fit
from services.boxfit.search_child import ANSWER, REQUEST
from services.runtime.child import Child, ChildLimits


class SearchProcess:
    """Searches boxes as `fit_bayesian` does, in a child process. Thread-safe; started when first used."""

    def __init__(self, limits: ChildLimits | None = None) -> None:
        self._child = Child("Bayesian search", "services.boxfit.search_child", limits=limits)

    def fit(self, ones: Map, max_iterations: int, seed: int) -> Fit:
        """Searches; see `fit_bayesian`.

        Raises:
            InvalidArgument: see `check_map`.
            Unavailable: the child cannot be started, died, or took too long; the next call starts a new one.
        """
        check_map(ones)
        request = REQUEST.pack(*ones.shape, max_iterations, seed) + np.packbits(ones).tobytes()
        *corners, evaluations = ANSWER.unpack(self._child.ask(request))
        return measure_fit(ones, Box(*corners), evaluations=evaluations, optimal=False)

    def close(self) -> None:
        """Ends the child."""
        self._child.close()
