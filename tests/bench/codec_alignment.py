"""How images are brought to a reference: ours beside AKAZE at full size, on one core (300 MVTec AD screws, 1024 px).

Both get the same mask, by contrast. The share that aligns is by mask IoU over .6 for both; over .7 is beside it. An
image counts as a test image does: mask, pose, warp and blank, from pixels in memory. The original tool works on the
whole image, so AKAZE's time is with a limit that does not shrink it.
"""

import time
from collections.abc import Callable

import cv2
import numpy as np

from services.codec.align import Aligner
from services.codec.align.akaze import AkazeAligner
from services.codec.align.pose import PoseAligner
from services.codec.geometry import Mask
from services.codec.reference import open_reference
from tests.bench.detectors import find_data
from tests.bench.figures import Figures
from tests.bench.preparing import CONTRAST, OURS, Picture, prepare_set, read_pictures

TIMED = 60


def main() -> None:
    """Measures, prints and writes build/bench/codec_alignment.json."""
    folder = find_data("screw")
    if not folder.is_dir():
        print(f"skipped: {folder} does not exist (set MEKIKI_TEST_DATA)")
        return
    figures = Figures("codec_alignment")
    cv2.setNumThreads(1)
    train = read_pictures(folder / "train" / "good")
    tests = read_pictures(folder / "test" / "good") + read_pictures(folder / "test" / "bad")
    reference = open_reference(train[0], CONTRAST)
    masks = [CONTRAST.find_part(picture) for picture in (*train, *tests)]
    times = {}
    aligners: dict[str, Aligner] = {
        "pose": PoseAligner(reference.image, reference.mask),
        "AKAZE": AkazeAligner(reference.image, reference.mask),
    }
    for name, aligner in aligners.items():
        times[name] = add_aligner(figures, name, aligner, [*train, *tests], masks)
    figures.add("mask by contrast, an image", time_each(CONTRAST.find_part, tests[:TIMED]), "ms")
    figures.add("AKAZE / pose, without the mask", times["AKAZE"] / times["pose"], "x", 5.0)
    add_preparing(figures, train, tests)
    figures.finish()


def add_aligner(figures: Figures, name: str, aligner: Aligner, pictures: list[Picture], masks: list[Mask]) -> float:
    """Adds how many align, how well, and how long one takes; returns that, milliseconds."""
    found, times = [], []
    for picture, mask in zip(pictures, masks, strict=True):
        start = time.perf_counter()
        found.append(aligner.align(picture, mask))
        times.append(1000 * (time.perf_counter() - start))
    scores = np.array([one.score for one in found])
    wanted = 100.0 if name == "pose" else None
    figures.add(f"{name}: aligned, of {len(pictures)}", 100 * np.mean([one.aligned for one in found]), "%", wanted)
    figures.add(f"{name}: mask IoU over .7", 100 * float((scores > 0.7).mean()), "%")
    figures.add(f"{name}: mask IoU to the reference, median", float(np.median(scores)), "")
    figures.add(f"{name}: mask IoU to the reference, least", float(scores.min()), "")
    figures.add(f"{name}: an image, median", float(np.median(times)), "ms")
    return float(np.median(times))


def add_preparing(figures: Figures, train: list[Picture], tests: list[Picture]) -> None:
    """Adds what a test image takes from pixels to prepared pixels."""
    prepared = prepare_set(train[:40], OURS)
    spent = time_each(lambda picture: prepared.prepare([picture]), tests[:TIMED])
    figures.add("preparing a test image, one core, median", spent, "ms", 30.0, "lower")


def time_each(work: Callable[[Picture], object], pictures: list[Picture]) -> float:
    """Median of the times, milliseconds."""
    times = []
    for picture in pictures:
        start = time.perf_counter()
        work(picture)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


if __name__ == "__main__":
    main()
