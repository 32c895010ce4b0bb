"""Whether "at most so many false alarms, with 95 % confidence" is kept: 200 random halves of real normal images each.

One half is enrolled and calibrated on as the service does it (10 folds, order statistic), the other half is judged. A
score is the cosine distance of whole images to the nearest enrolled one; the promise holds whatever a score is. 1 %
needs 299 normals, so it is asked of the data sets that have so many: every image of them counts as normal.

Of the held-out half only so many images are there to count. What a promise that is kept just so would show on them is
known exactly (beta-binomial), and stands beside what is seen; weights come from MEKIKI_WEIGHTS_DIR.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, binom

from services.anomaly.backbones import DEFAULT_BACKBONE, SMALL_BACKBONE, open_backbone
from services.anomaly.engines.losses import ADACOS, open_loss
from services.anomaly.engines.metric import MetricEngine
from services.anomaly.frames import resize, to_pixels, to_tensor
from services.anomaly.threshold import choose_rank, choose_threshold, split_folds
from tests.bench.detectors import find_data
from tests.bench.figures import Figures

SPLITS = int(os.environ.get("SPLITS", "200"))
FOLDS, CONFIDENCE = 10, 0.95
SETS = {"steel": ("*/*/*.jpg", 0.01), "cifar10": ("*/*/*.jpg", 0.01), "tile": ("*/good/*.jpg", 0.05)}


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_promise.json."""
    figures = Figures("anomaly_promise")
    engine = open_engine()
    for name, (pattern, rate) in SETS.items():
        paths = sorted(find_data(name).glob(pattern))
        if not paths:
            print(f"skipped: no {pattern} in {find_data(name)} (set MEKIKI_TEST_DATA)")
            continue
        measure(figures, name, embed(engine, paths), rate)
    figures.finish()


def open_engine() -> MetricEngine:
    """One vector an image, of a network that was trained on ImageNet alone."""
    weights = Path(os.environ.get("MEKIKI_WEIGHTS_DIR", ".")) / f"{DEFAULT_BACKBONE}.safetensors"
    found = [weights, *sorted(weights.parent.glob(f"{DEFAULT_BACKBONE}*.safetensors"))]
    there = next((path for path in found if path.is_file()), None)
    backbone = open_backbone(DEFAULT_BACKBONE if there else SMALL_BACKBONE, there)
    return MetricEngine(backbone, open_loss(ADACOS, backbone.channels, 3), 64, by_outlier_factor=False)


def embed(engine: MetricEngine, paths: list[Path]) -> NDArray[np.float32]:
    """(n, d) unit vectors."""
    torch.set_num_threads(1)  # small images on several threads only fight each other
    vectors = []
    for path in paths:
        pixels = to_pixels(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
        shape = engine.choose_input_shape(pixels.shape[:2])
        vectors.append(engine.embed(to_tensor(resize(pixels, shape)), None).vectors[0])
    return np.stack(vectors).astype(np.float32)


def measure(figures: Figures, name: str, vectors: NDArray[np.float32], rate: float) -> None:
    """How many splits keep the promise, seen and expected."""
    distances = 1 - vectors @ vectors.T
    half = len(vectors) // 2
    alarms = np.array([count_alarms(distances, half, rate, seed) for seed in range(SPLITS)])
    held_out = len(vectors) - half
    allowed = int(rate * held_out)
    above = half - choose_rank(half, rate, CONFIDENCE)  # calibrated normals above the threshold
    expected = betabinom.cdf(allowed, held_out, above + 1, half - above)
    margin = 2 * np.sqrt(expected * (1 - expected) / SPLITS)  # of so many splits
    # More alarms than this are a sign, at 5 %, of a rate above the promised one.
    suspicious = binom.ppf(0.95, held_out, rate)
    title = f"{name}, {half} normals, {rate:.0%} with {CONFIDENCE:.0%}"
    figures.add(
        f"{title}: splits that keep it, as far as {held_out} images tell", (alarms <= suspicious).mean(), "", 0.95
    )
    figures.add(f"{title}: splits with at most {allowed} alarms", (alarms <= allowed).mean(), "", expected - margin)
    figures.add(f"{title}: the same, expected of normals drawn alike", expected, "")
    figures.add(f"{title}: mean rate of false alarms", 100 * alarms.mean() / held_out, "%")


def count_alarms(distances: NDArray[np.float32], half: int, rate: float, seed: int) -> int:
    """False alarms among the held-out images of one split."""
    order = np.random.default_rng(seed).permutation(len(distances))
    enrolled, held_out = order[:half], order[half:]
    names = [str(index) for index in enrolled]
    scores = []
    for part in split_folds(names, FOLDS):
        fold = np.array([int(name) for name in part])
        scores.append(distances[np.ix_(fold, np.setdiff1d(enrolled, fold))].min(axis=1))
    threshold = choose_threshold(np.concatenate(scores).astype(np.float64), rate, CONFIDENCE)
    return int((distances[np.ix_(held_out, enrolled)].min(axis=1) > threshold.value).sum())


if __name__ == "__main__":
    main()
