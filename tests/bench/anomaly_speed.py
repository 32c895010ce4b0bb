"""How long it takes until a detector stands, and where the time of a verdict goes.

A patch detector on 200 screws of 1024 px at 384 px, as they are: trained and enrolled through the served path, from
stored items to a bank that is durable. Then the test screws through the served path, and in this process step by step.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch

import mekiki
from services.anomaly.catalogue import Catalogue
from services.anomaly.entries import Reference
from services.anomaly.frames import Placement, lay_out_heatmap, resize, to_tensor
from services.anomaly.model import Detector
from services.anomaly.training import load_model
from services.runtime.store import Store
from tests.bench.detectors import find_data, make, push
from tests.bench.figures import Figures
from tests.running import running_services

NORMALS = mekiki.ItemFilter("screw", splits=("train",))
SIDE_PX, THREADS, ROUNDS, CPU = 384, 2, 5, torch.device("cpu")
Made = TypeVar("Made")


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_speed.json."""
    data = find_data("screw")
    if not data.is_dir():
        print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
        return
    torch.set_num_threads(THREADS)
    figures = Figures("anomaly_speed")
    files = [path.read_bytes() for path in sorted((data / "test").glob("*/*.png"))][::4]
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("MEKIKI_WEIGHTS")}
    with tempfile.TemporaryDirectory() as folder, running_services(Path(folder), passed_on) as running:
        with mekiki.Client(running.address) as client:
            push(client, "screw", data)
            start = time.perf_counter()
            make(client, "screw", NORMALS, mekiki.PatchEngine(input_side=SIDE_PX))
            seconds = time.perf_counter() - start
            figures.add("training and enrolling 200 images of 1024 px, served", seconds, "s", 90, "lower")
            add_served(figures, client, files)
        add_steps(figures, open_detector(running.store_url), files)
    figures.finish()


def open_detector(store_url: str) -> Detector:
    """The served detector, opened in this process."""
    catalogue = Catalogue.open(Store.open(store_url).prefixed("anomaly"))
    entry = catalogue.read().find(Reference("screw"))
    model = load_model(catalogue.load_model(entry), CPU)
    return Detector(model, catalogue.open_bank(entry, model.engine.layout).refresh(), None, CPU)


def add_served(figures: Figures, client: mekiki.Client, files: list[bytes]) -> None:
    """Images a second of a stream, sent as PNG."""
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for answer in client.anomaly.score_images("screw", files):
            if answer.error is not None:
                raise answer.error
        rates.append(len(files) / (time.perf_counter() - start))
    figures.add("served: a stream of PNG of 1024 px", statistics.median(rates), "images/s")


def add_steps(figures: Figures, detector: Detector, files: list[bytes]) -> None:
    """The median time of each step of a verdict; decoding happens beside the others when it is served."""
    steps: dict[str, list[float]] = {}

    def clock(name: str, work: Callable[..., Made], *given: object) -> Made:
        start = time.perf_counter()
        made = work(*given)
        steps.setdefault(name, []).append(time.perf_counter() - start)
        return made

    engine, framing = detector.model.engine, detector.model.framing
    for file in files:
        image = clock("decode", cv2.imdecode, np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        pixels = clock("cut", framing.cut, image)
        small = clock("resize", resize, pixels, engine.choose_input_shape(pixels.shape[:2]))
        tensor = clock("normalise", to_tensor, small)
        embedding = clock("network and cells", engine.embed, tensor, framing.cut_mask())
        judgement = clock("search", engine.judge, embedding, detector.normals)
        placement = Placement(np.eye(2, 3), image.shape[:2])
        clock("heat map", lay_out_heatmap, engine.locate(tensor, judgement), framing, placement, 256)
        clock("coreset, when enrolled", engine.contribute, embedding)
    for name, seconds in steps.items():
        figures.add(f"a verdict here: {name}, median", 1000 * statistics.median(seconds), "ms")


if __name__ == "__main__":
    main()
