"""Probabilities that mean what they say: one temperature for all logits, fitted on held-out images.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017, sections 2 and 4.2.
"""

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float64]  # (n, k)
Integers = npt.NDArray[np.int64]

BINS = 15
_LOWEST, _HIGHEST = 0.02, 50.0
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 60


def fit_temperature(logits: Logits, classes: Integers) -> float:
    """Give the temperature with the least cross entropy; 1 of no images.

    Targets are those of Platt ("Probabilistic outputs for support vector machines", 1999): n images that are all right
    prove no certainty, so the true label gets (n + 1) / (n + 2) and the others share the rest.
    """
    if len(classes) == 0:
        return 1.0
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    for _ in range(_STEPS):  # golden section: the loss has one valley over the inverse temperature
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _measure_loss(logits, classes, left) < _measure_loss(logits, classes, right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _measure_loss(logits: Logits, classes: Integers, log_temperature: float) -> float:
    n, k = logits.shape
    scaled = logits / np.exp(log_temperature)
    peak = scaled.max(1)
    log_sums = peak + np.log(np.exp(scaled - peak[:, None]).sum(1))
    own = scaled[np.arange(n), classes]
    others = (scaled.sum(1) - own) / (k - 1)
    return float((log_sums - ((n + 1) * own + others) / (n + 2)).mean())


def soften(logits: Logits, temperature: float) -> Logits:
    """Turn logits (n, k) into probabilities (n, k)."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def measure_calibration_error(probabilities: Logits, classes: Integers) -> float:
    """Expected calibration error of the most probable labels, 0 to 1, over 15 bins of equal width; 0 of no images."""
    if len(classes) == 0:
        return 0.0
    sureness, hits = probabilities.max(1), probabilities.argmax(1) == classes
    bins = np.minimum((sureness * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, hits - sureness, BINS)
    return float(np.abs(gaps).sum() / len(classes))


def measure_by_halves(logits: Logits, classes: Integers, units: Integers) -> float:
    """Calibration error of each half of the images with the temperature that the other half gives.

    `units` (n,) are never torn apart. Of fewer than two units it is the error at temperature 1.
    """
    names = np.unique(units)
    if len(names) < 2:
        return measure_calibration_error(soften(logits, 1.0), classes)
    order = np.random.default_rng(0).permutation(names)
    first = np.isin(units, order[: len(order) // 2])
    probabilities = np.empty_like(logits)
    for half in (first, ~first):
        probabilities[half] = soften(logits[half], fit_temperature(logits[~half], classes[~half]))
    return measure_calibration_error(probabilities, classes)
