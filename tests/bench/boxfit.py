"""The exact box against Bayesian optimisation (GPyOpt, 20 + 10 boxes, as in the original tool) on the same maps.

Maps of 224 x 224: smooth blobs as a class activation map of 7 x 7 cells gives them, cut at 0.3 of the maximum, and
three maps that no single box fits well. Both methods run in this process, one after the other, on the same arrays and
on one core each: more threads only slow GPyOpt's small matrices down.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from services.boxfit.model import Fit, FitOptions, Method, fit_box, threshold_map, warm_up
from tests.bench.figures import Figures

SIDE = 224
BLOBS = 5
EXACT_RUNS = 21


@dataclass(frozen=True)
class Duel:
    """Both methods on one map."""

    name: str
    exact: Fit
    exact_s: float
    bayesian: Fit
    bayesian_s: float


def main() -> None:
    """Measures, prints and writes build/bench/boxfit.json."""
    figures = Figures("boxfit")
    warm_up()
    fit_box(draw_bar(), FitOptions(Method.BAYESIAN, max_iterations=1))  # the import is not what is measured
    blobs = [duel(f"blob {seed}", draw_blobs(seed, cells=7)) for seed in range(BLOBS)]
    hard = [duel("diagonal bar", draw_bar()), duel("broken ring", draw_ring()), duel("crumbs", draw_blobs(5, cells=14))]
    for one in blobs + hard:
        print(
            f"{one.name:12}  exact {one.exact_s * 1e3:8.3f} ms  IoU {one.exact.iou:.3f}  "
            f"bayesian {one.bayesian_s * 1e3:8.0f} ms  IoU {one.bayesian.iou:.3f}"
        )
    report(figures, blobs, hard)


def report(figures: Figures, blobs: list[Duel], hard: list[Duel]) -> None:
    """Turns the duels into figures."""
    duels = blobs + hard
    figures.add("exact minus bayesian: IoU, worst map", min(d.exact.iou - d.bayesian.iou for d in duels), "IoU", 0)
    figures.add("maps with proof that no box is better", sum(d.exact.optimal for d in duels) / len(duels), "share", 1)
    for name, group, goal in (("blobs", blobs, 1.0), ("hard maps", hard, 1.0)):
        speed = min(d.bayesian_s / d.exact_s for d in group)
        figures.add(f"{name}: exact against bayesian: speed, worst map", speed, "x", 3000)
        figures.add(f"{name}: exact, slowest", max(d.exact_s for d in group) * 1e3, "ms", goal, better="lower")
        figures.add(f"{name}: bayesian, median", statistics.median(d.bayesian_s for d in group), "s", better="lower")
        figures.add(f"{name}: exact, mean IoU", statistics.fmean(d.exact.iou for d in group), "IoU")
        figures.add(f"{name}: bayesian, mean IoU", statistics.fmean(d.bayesian.iou for d in group), "IoU")
    figures.finish()


def duel(name: str, ones: NDArray[np.bool_]) -> Duel:
    """Times both methods on a map: exact by the median of its runs, bayesian by one."""
    exact = fit_box(ones)
    times_s = [time_call(lambda: fit_box(ones))[1] for _ in range(EXACT_RUNS)]
    with threadpool_limits(1):
        bayesian, bayesian_s = time_call(lambda: fit_box(ones, FitOptions(Method.BAYESIAN)))
    return Duel(name, exact, statistics.median(times_s), bayesian, bayesian_s)


def time_call(call: Callable[[], Fit]) -> tuple[Fit, float]:
    """Returns a call's result and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def draw_blobs(seed: int, cells: int) -> NDArray[np.bool_]:
    """A coarse random activation, upscaled and cut as an explanation is."""
    noise = np.random.default_rng(seed).normal(size=(cells, cells)).astype(np.float32)
    coarse = np.maximum(cv2.GaussianBlur(noise, (0, 0), 1.0), 0)
    heat = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return threshold_map(np.asarray(heat, dtype=np.float32))


def draw_bar() -> NDArray[np.bool_]:
    """A bar across the picture: half of its tight box is empty."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    cv2.line(canvas, (30, 40), (190, 200), 255, 40)
    return canvas > 0


def draw_ring() -> NDArray[np.bool_]:
    """A ring with holes: emptiness in the middle, ragged at the rim."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(canvas, (120, 105), 70, 255, 24)
    holes = np.random.default_rng(0).random((SIDE, SIDE)) < 0.15
    return (canvas > 0) & ~holes
