"""Ours beside anomalib's PatchCore and PaDiM: the same weights, pixels and threads, in one run, judged by our curves.

On `tile`, every image stretched to a square of 384 px beforehand; on `screw`, raw (1024 px, resized by each) and as our
codec prepares them. Rates are from pixels in memory to score and heat map, of both in turn, round by round, so that
both meet the same machine. Ours is the services' model in this process. anomalib lives in an environment of its own,
made on first use (tests/bench/peers.txt); where that cannot be had, this is skipped and says so.

Its PatchCore keeps 1 % of all vectors here (PEER_CORESET), not its default of 10 %: to choose those takes hours on a
CPU. How it fares with a bank of 10 % is measured on one that is drawn at random. See peers/anomalib_child.py, too.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.anomaly.curves import compute_auroc
from services.anomaly.model import Detector
from services.anomaly.pixels import PixelCurve
from tests.bench.detectors import find_data
from tests.bench.figures import Figures
from tests.bench.judging import find_backbone, make_detector
from tests.bench.peers.pictures import Pictures, Pixels, gather_screws, gather_tiles, prepare_screws, read
from tests.bench.peers.process import Peer, PeerJob
from tests.bench.peers.surroundings import find_python

LAYERS = ["blocks.2", "blocks.4"]  # timm's names of the maps of strides 8 and 16
SIDE_PX, THREADS, ROUNDS, TIMED, BATCHES = 384, 2, 3, 16, (1, 4, 16)
CORESET = float(os.environ.get("PEER_CORESET", "0.01"))
DEFAULT_CORESET = 0.1
GATHERERS = {"tile": gather_tiles, "screw": gather_screws, "prepared": prepare_screws}
Found = tuple[NDArray[np.float64], list[NDArray[np.float32]]]  # a score and a heat map of every image


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_peers.json."""
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    weights, python = find_backbone(), find_python()
    if weights is None or python is None:
        return
    figures = Figures("anomaly_peers")
    for name in os.environ.get("PICTURES", ",".join(GATHERERS)).split(","):
        data = find_data("tile" if name == "tile" else "screw")
        if not data.is_dir():
            print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
            continue
        with tempfile.TemporaryDirectory() as folder:
            pictures = GATHERERS[name](Path(folder), SIDE_PX)
            for engine in os.environ.get("ENGINES", "patch,padim").split(","):
                compare(figures, pictures, engine, python, weights)
    figures.finish()


def compare(figures: Figures, pictures: Pictures, engine: str, python: Path, weights: Path) -> None:
    """One engine of ours and its like, on one set of pictures."""
    job = PeerJob(
        engine={"patch": "patchcore", "padim": "padim"}[engine],
        train=[str(path) for path in pictures.train],
        test=[str(path) for path in pictures.test],
        shape=pictures.shape,
        layers=LAYERS,
        weights=str(weights),
        coreset=CORESET,
        threads=THREADS,
    )
    train, test = [read(path) for path in pictures.train], [read(path) for path in pictures.test]
    title = f"{pictures.name}, {engine}"
    start = time.perf_counter()
    detector = make_detector(engine, SIDE_PX, pictures.framing.mask, train, weights)
    figures.add(f"{title}: training on {len(train)} images", time.perf_counter() - start, "s")
    with Peer(python, job) as peer:
        add_training(figures, f"{title}, anomalib", peer)
        add_rates(figures, title, detector, test, peer)
        theirs = add_accuracy(figures, f"{title}, anomalib", pictures, peer.judge())
        add_accuracy(figures, title, pictures, judge(detector, test), goal=theirs)
        if engine == "patch":
            peer.draw_bank(DEFAULT_CORESET)
            at_random = f"{title}, anomalib with {DEFAULT_CORESET:.0%} at random"
            add_rates(figures, title, detector, test, peer, f"anomalib with {DEFAULT_CORESET:.0%}")
            add_accuracy(figures, at_random, pictures, peer.judge())


def add_training(figures: Figures, title: str, peer: Peer) -> None:
    """What the peer's training takes, from pixels; of PatchCore from the time of a step, which are all alike."""
    made = peer.training
    if not made.bank:
        figures.add(f"{title}: training", made.embed_s + made.fit_s, "s")
        return
    figures.add(f"{title}: vectors in the bank, {CORESET:.1%}", made.bank, "")
    for share in (CORESET, DEFAULT_CORESET):
        steps = made.bank * share / CORESET
        figures.add(
            f"{title}: training with {share:.1%}, from {made.step_s:.2g} s a step",
            made.embed_s + steps * made.step_s,
            "s",
        )


def add_rates(
    figures: Figures, title: str, detector: Detector, test: list[Pixels], peer: Peer, name: str = "anomalib"
) -> None:
    """Images a second of both, in turn; the peer one by one, and in the batches that suit it best."""
    some = test[:TIMED]
    measure(detector, some)
    best = max(BATCHES, key=lambda batch: peer.rate(len(some), batch))
    ours, single, batched = [], [], []
    for _ in range(ROUNDS):
        ours.append(measure(detector, some))
        single.append(peer.rate(len(some), 1))
        batched.append(single[-1] if best == 1 else peer.rate(len(some), best))
    ratios = [here / max(there) for here, *there in zip(ours, single, batched, strict=True)]
    figures.add(f"{title}: ours beside {name}", statistics.median(ours), "images/s")
    figures.add(f"{title}, {name}: one by one", statistics.median(single), "images/s")
    figures.add(f"{title}, {name}: in batches of {best}", statistics.median(batched), "images/s")
    figures.add(f"{title}: ours / {name} at its best, median of rounds", statistics.median(ratios), "x", 3)


def measure(detector: Detector, images: list[Pixels]) -> float:
    """Images a second, each with a heat map of the size that the peer's has."""
    start = time.perf_counter()
    for image in images:
        detector.score_image(image, heatmap_side=SIDE_PX)
    return len(images) / (time.perf_counter() - start)


def judge(detector: Detector, test: list[Pixels]) -> Found:
    """Ours, of all images of the test."""
    verdicts = [detector.score_image(image, heatmap_side=SIDE_PX) for image in test]
    maps = [verdict.heatmap for verdict in verdicts if verdict.heatmap is not None]
    return np.array([verdict.score for verdict in verdicts]), maps


def add_accuracy(figures: Figures, title: str, pictures: Pictures, found: Found, goal: float | None = None) -> float:
    """Image AUROC, which is returned; and pixel AUROC and PRO where there is a truth."""
    scores, maps = found
    auroc = compute_auroc(scores, pictures.is_bad)
    figures.add(f"{title}: image AUROC", auroc, "", goal)
    if not any(pictures.masks):
        return auroc
    curve = PixelCurve()
    for heat, path in zip(maps, pictures.masks, strict=True):
        truth = np.zeros((SIDE_PX, SIDE_PX), np.uint8) if path is None else cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        curve.add(cv2.resize(heat, truth.shape[::-1], interpolation=cv2.INTER_LINEAR), truth > 127)
    figures.add(f"{title}: pixel AUROC", curve.compute_auroc(), "")
    figures.add(f"{title}: PRO", curve.compute_pro(), "")
    return auroc


if __name__ == "__main__":
    main()
