"""How fast images are read, exact and prepared, beside PNG files and OpenCV; and how fast and in how much memory made.

200 MVTec AD screws of 1024 px in a store on this disk, read in this process, one thread: as they are stored (PNG files
by name), and one here and one there. Exact ones as appended and compacted; prepared ones (at full size, not cut, so
that as many pixels come out) for several lengths of a group of pictures. Then sample parts, few and many, appended,
compacted and prepared in a process of its own, whose peak of memory is asked of the system.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from services.codec.changes import NewItem
from services.codec.compact import Compactor
from services.codec.dataset import Datasets
from services.codec.model import Codec
from services.codec.options import Options
from services.codec.reading import Selection
from services.runtime.arenas import limit_arenas
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from tests.bench.codec_lossless import Silent
from tests.bench.detectors import find_data
from tests.bench.figures import Figures

GOPS = (1, 4, 16, 64)
RANDOM = 60
FEW, MANY = 200, int(os.environ.get("MANY", "5000"))
SEED = 7


def main() -> None:
    """Measures, prints and writes build/bench/codec_reading.json."""
    figures = Figures("codec_reading")
    paths = sorted((find_data("screw") / "train" / "good").glob("*.png"))
    if paths:
        cv2.setNumThreads(1)
        with tempfile.TemporaryDirectory() as folder:
            add_reading(figures, paths, open_codec(Path(folder)))
    else:
        print(f"skipped: {find_data('screw')} does not exist (set MEKIKI_TEST_DATA)")
    add_making(figures)
    figures.finish()


def open_codec(folder: Path) -> Codec:
    """The codec's model on a store in a folder."""
    store = Store.open(f"file://{folder}/store").prefixed("codec")
    return Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [folder])


def add_reading(figures: Figures, paths: Sequence[Path], codec: Codec) -> None:
    """Adds images a second of every form, and how often those of PNG files that is."""
    drawn = np.random.default_rng(SEED).integers(len(paths), size=RANDOM)
    peer = {
        "in order": rate(lambda number: cv2.imread(str(paths[number]), cv2.IMREAD_UNCHANGED), range(len(paths))),
        "at random": rate(lambda number: cv2.imread(str(paths[number]), cv2.IMREAD_UNCHANGED), drawn),
    }
    for order, speed in peer.items():
        figures.add(f"PNG files by OpenCV, {order}", speed, "images/s")
    push(codec.datasets, [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths])
    add_form(figures, "exact, as appended", codec, peer, drawn, prepared=False)
    Compactor(codec.datasets, Silent(), 2).compact("parts")
    add_form(figures, "exact, compacted", codec, peer, drawn, prepared=False)
    for gop in GOPS:
        codec.encode("parts", make_options(gop, background="none"), Silent(), 2)
        add_form(figures, f"prepared, groups of {gop}", codec, peer, drawn, prepared=True)


def add_form(
    figures: Figures, title: str, codec: Codec, peer: dict[str, float], drawn: Sequence[int], *, prepared: bool
) -> None:
    """Adds one form, read in order as ReadItems reads, and at random as one item is asked for."""
    found = codec.find_items("parts", Selection(), prepared=prepared)
    stored = found.items_as_stored()
    names = [item.item_id for item in found.items]

    def read_one(number: int) -> object:
        asked = codec.find_items("parts", Selection(item_ids=(names[number],)), prepared=prepared)
        return asked.reader.read(asked.items[0]).pixels

    speeds = {
        "in order": rate(lambda number: found.reader.read(stored[number]).pixels, range(len(stored))),
        "at random": rate(read_one, drawn),
    }
    for order, goal in (("in order", 1.0), ("at random", 1 / 3)):
        figures.add(f"{title}, {order}", speeds[order], "images/s")
        figures.add(f"{title}, {order}: PNG files' speed, times", speeds[order] / peer[order], "x", goal)


def add_making(figures: Figures) -> None:
    """Adds how fast sample parts are appended, compacted and prepared, and in how much memory, few and many."""
    peaks = {}
    for count in (FEW, MANY):
        child = [sys.executable, "-m", "tests.bench.codec_reading", str(count)]
        told = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for phase, seconds in told["seconds"].items():
            figures.add(f"{count} parts of 512 px, {phase}", count / seconds, "images/s")
        peaks[count] = told["peak_mb"]
        figures.add(f"{count} parts of 512 px, peak memory", peaks[count], "MB")
    figures.add("peak memory of many / of few", peaks[MANY] / peaks[FEW], "x", 1.3, "lower")


def make(count: int) -> None:
    """Makes a data set and prints what it took; run as a process of its own."""
    limit_arenas()  # as codec's worker does
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        codec = open_codec(Path(folder))
        for phase, work in (
            ("appending", lambda: push(codec.datasets, map(draw, range(count)))),
            ("compacting", lambda: Compactor(codec.datasets, Silent(), 2).compact("parts")),
            ("preparing", lambda: codec.encode("parts", make_options(16, background="contrast"), Silent(), 2)),
        ):
            start = time.perf_counter()
            work()
            seconds[phase] = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mb": measure_peak()}))


def measure_peak() -> float:
    """Most memory that this program had, MB; what getrusage tells counts the parent's before it became this one."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return int(told.split("VmHWM:")[1].split()[0]) / 1024


def draw(number: int) -> np.ndarray:
    """A bolt-like part in some pose, with noise: (512, 512) uint8."""
    random = np.random.default_rng(number)
    picture = np.full((512, 512), 200, np.uint8)
    angle, centre = random.uniform(-np.pi, np.pi), random.uniform(226, 286, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for shape, grey in (
        ([(-140, -20), (80, -20), (80, 20), (-140, 20)], 90),
        ([(80, -56), (124, -56), (124, 56), (80, 56)], 60),
    ):
        corners = np.round((np.array(shape) @ turn.T + centre) * 16).astype(np.int32)
        cv2.fillPoly(picture, [corners], grey, cv2.LINE_AA, 4)
    return np.clip(picture + random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def push(datasets: Datasets, pictures: object) -> None:
    """Appends pictures 64 at a time, as the service does."""
    datasets.create("parts")
    waiting: list[NewItem] = []
    for number, picture in enumerate(pictures):  # type: ignore[call-overload]
        waiting.append(NewItem(f"part-{number:05d}", picture, picture.nbytes))
        if len(waiting) == 64:
            datasets.append("parts", waiting)
            waiting = []
    if waiting:
        datasets.append("parts", waiting)


def make_options(gop: int, background: str) -> Options:
    """How the parts are prepared."""
    return Options(
        background=background,
        alignment="none" if background == "none" else "pose",
        transform="rigid",
        blank_background=background != "none",
        crf=28,
        gop=gop,
        reference="medoid",
        reference_item_id="",
        reference_splits=(),
        mask_margin=-1,
        categories="one",
    )


def rate(read: Callable[[int], object], numbers: Sequence[int]) -> float:
    """Images a second, each by its number."""
    start = time.perf_counter()
    for number in numbers:
        read(int(number))
    return len(numbers) / (time.perf_counter() - start)


if __name__ == "__main__":
    make(int(sys.argv[1])) if len(sys.argv) > 1 else main()
