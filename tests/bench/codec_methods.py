"""What compression costs a detector: the nine methods of the study, rebuilt (MVTec AD screw, 200 normal images).

Odd methods are HEVC (x265, preset medium, CRF 28, GOP 16), even ones the same at CRF 51; so sizes differ by the
preparation alone; after them the seventh as codec does it by default. A detector (padim, patch; MobileNetV2 at 384 px)
is trained on what comes out of the video and judges test images that were prepared the same way, not compressed. Then
codec's way at several rates and sizes: the smallest at which a detector is no worse than on the raw images. That one is
chosen looking at the test images. Sizes are those of the video, and at last of everything that codec stores for it.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mekiki
from services.anomaly.frames import to_pixels
from services.codec.video_encode import Rate
from tests.bench.detectors import find_data, push, serving
from tests.bench.figures import Figures
from tests.bench.judging import find_backbone, make_detector, measure_auroc
from tests.bench.preparing import (
    ALIGNED,
    BOTH,
    CUT_OUT,
    OURS,
    PLAIN,
    Picture,
    Way,
    compress,
    prepare_set,
    read_pictures,
)

CRF, STRONGEST, GOP, LONG_GOP, SIDE_PX = 28, 51, 16, 250, 384
CRFS = [int(crf) for crf in os.environ.get("CRFS", "28,31,34,36,38,40").split(",")]
AV1_CRFS = [int(crf) for crf in os.environ.get("AV1_CRFS", "30,38,46,52,57,61").split(",")]
RATES = [Rate(crf, GOP) for crf in CRFS] + [Rate(crf, GOP, "av1") for crf in AV1_CRFS]
SIDES = [int(side) for side in os.environ.get("SIDES", "0,512,384").split(",")]
ENGINES = os.environ.get("ENGINES", "padim,patch").split(",")
WAYS = {1: PLAIN, 3: ALIGNED, 5: CUT_OUT, 7: BOTH}
CUT = replace(OURS, name="aligned, background removed, cut to the parts, ordered")


class Study:
    """The screws, and the judges."""

    def __init__(self, figures: Figures, folder: Path, weights: Path) -> None:
        self.figures = figures
        self.weights = weights
        self.train = read_pictures(folder / "train" / "good")
        self.good, self.bad = read_pictures(folder / "test" / "good"), read_pictures(folder / "test" / "bad")
        self.png_bytes = sum(path.stat().st_size for path in (folder / "train" / "good").glob("*.png"))
        self.raw: dict[str, float] = {}

    def judge(
        self, train: Sequence[Picture], tests: tuple[list[Picture], list[Picture]], mask: NDArray[np.bool_] | None
    ) -> dict[str, float]:
        """AUROC of each engine."""
        found = {}
        for engine in ENGINES:
            detector = make_detector(engine, SIDE_PX, mask, [to_pixels(one) for one in train], self.weights)
            found[engine] = measure_auroc(detector, *tests)
        return found

    def add(self, title: str, size: int, plain: int, found: dict[str, float], *, is_held: bool = False) -> None:
        """Adds a row of the table."""
        self.figures.add(f"{title}: size", size / 1000, "KB")
        self.figures.add(f"{title}: of no. 1", 100 * size / plain, "%", 40.0 if is_held else None, "lower")
        for engine, auroc in found.items():
            goal = self.raw[engine] if is_held else None
            self.figures.add(f"{title}: {engine}, image AUROC", auroc, "", goal)


def main() -> None:
    """Measures, prints and writes build/bench/codec_methods.json."""
    folder, weights = find_data("screw"), find_backbone()
    if not folder.is_dir() or weights is None:
        print(f"skipped: {folder} does not exist (set MEKIKI_TEST_DATA)")
        return
    figures = Figures("codec_methods")
    study = Study(figures, folder, weights)
    plain, _ = compress(study.train, Rate(CRF, GOP))
    study.raw = study.judge(study.train, (study.good, study.bad), None)
    study.add("0 PNG, nothing done", study.png_bytes, plain, study.raw)
    for number, way in WAYS.items():
        add_method(study, number, way, plain)
    add_method(study, 7, CUT, plain)
    add_rates(study)
    figures.finish()


def add_method(study: Study, number: int, way: Way, plain: int) -> None:
    """Adds an odd method, and the even one after it."""
    prepared = prepare_set(study.train, way)
    tests = (prepared.prepare(study.good), prepared.prepare(study.bad))
    mask = None if way.alignment == "none" else prepared.recipe.mask
    if way.alignment != "none" and mask is None:  # aligned, nothing blanked: everything counts
        mask = np.ones(prepared.frames[0].shape[:2], np.bool_)
    for step, (crf, name) in enumerate(((CRF, way.name), (STRONGEST, f"{way.name}, strongest"))):
        size, frames = compress(prepared.frames, Rate(crf, GOP))
        found = study.judge(frames, tests, mask)
        study.add(f"{number + step} {name}", size, plain, found, is_held=way is CUT and crf == CRF)
    if way.alignment != "none":
        study.figures.add(f"{number} {way.name}: aligned", 100 * prepared.aligned_share, "%", 100.0)


def add_rates(study: Study) -> None:
    """Adds size against AUROC of what codec does by default, and the smallest that is no worse than the raw images."""
    best: dict[str, tuple[float, int, int]] = {}
    for side in SIDES:
        prepared = prepare_set(study.train, replace(OURS, side=side))
        tests = (prepared.prepare(study.good), prepared.prepare(study.bad))
        title = f"prepared at {max(prepared.frames[0].shape)} px"
        for engine, auroc in study.judge(prepared.frames, tests, prepared.recipe.mask).items():
            study.figures.add(f"{title}, not compressed: {engine}, image AUROC", auroc, "")
        for number, rate in enumerate(RATES):
            size, frames = compress(prepared.frames, rate)
            study.figures.add(f"{title}, {rate.codec} CRF {rate.crf}: PNG / size", study.png_bytes / size, "x")
            for engine, auroc in study.judge(frames, tests, prepared.recipe.mask).items():
                study.figures.add(f"{title}, {rate.codec} CRF {rate.crf}: {engine}, image AUROC", auroc, "")
                if auroc >= study.raw[engine]:
                    best[engine] = max(best.get(engine, (0.0, 0, 0)), (study.png_bytes / size, side, number))
    for engine, (_, side, number) in best.items():
        add_smallest(study, engine, side, RATES[number])


def add_smallest(study: Study, engine: str, side: int, rate: Rate) -> None:
    """Adds what codec itself stores where an engine is no worse than on raw images: video, list, masks, record."""
    for gop in (GOP, LONG_GOP):
        options = mekiki.EncodingOptions(
            background=mekiki.BackgroundRemoval.CONTRAST,
            crf=rate.crf,
            gop=gop,
            frame_side=side or None,
            video_codec=mekiki.VideoCodec(rate.codec),
        )
        with serving() as client:
            push(client, "screw", find_data("screw") / "train")
            encoding = client.codec.encode_dataset("screw", options=options).result(1800).encoding
        title = (
            f"{engine} no worse than on raw images: side {side or 'as it is'}, {rate.codec} CRF {rate.crf}, GOP {gop}, "
            "all that is stored"
        )
        study.figures.add(f"{title}: PNG / size", study.png_bytes / encoding.stored_bytes, "x", 1000.0)


if __name__ == "__main__":
    main()
