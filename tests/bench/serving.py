"""What serving costs: the same detector, the same images, in this process and over gRPC; and the house's memory.

One detector (patch, judged as sent) on rendered parts of 512 px. Weights as MEKIKI_WEIGHTS_DIR has them, else "small".
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import psutil
import torch

import mekiki
from mekiki.sample_parts import render_parts
from services.anomaly.catalogue import Catalogue
from services.anomaly.model import Detector
from services.anomaly.training import load_model
from services.runtime.store import Store
from tests.bench.figures import Figures
from tests.running import running_services

COUNT, ROUNDS, CALLS = 30, 5, 200
MEGABYTE = 1 << 20


def main() -> None:
    """Measures, prints and writes build/bench/serving.json."""
    figures = Figures("serving")
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("MEKIKI_WEIGHTS")}
    with tempfile.TemporaryDirectory() as name, running_services(Path(name), passed_on) as running:
        process = psutil.Process(running.pid)
        figures.add("resident memory at rest", weigh(process), "MB", 1000, "lower")
        folder = Path(name) / "parts"
        render_parts(folder, count=COUNT, seed=1)
        images = [cv2.imread(str(path))[:, :, ::-1].copy() for path in sorted(folder.glob("t*/*/*.png"))]
        with mekiki.Client(running.address) as client:
            teach(client, images[:10])
            add_throughput(figures, client, open_detector(running.store_url), images)
            add_latency(figures, client, images)
            figures.add("resident memory after streaming", weigh(process), "MB")
    figures.finish()


def weigh(process: psutil.Process) -> float:
    """Resident memory of the services and their workers, MB."""
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / MEGABYTE


def teach(client: mekiki.Client, images: list) -> None:
    """Trains, enrols and calibrates a detector on a few images."""
    client.codec.create_dataset("parts")
    items = [mekiki.NewItem(str(number), image, split="train") for number, image in enumerate(images)]
    list(client.codec.append_items("parts", items))
    try:
        client.anomaly.train_detector("parts", "parts").result(600)
    except mekiki.errors.FailedPrecondition as error:
        print(error.message)
        client.anomaly.train_detector("parts", "parts", backbone="small").result(600)
    client.anomaly.enroll_items("parts", [mekiki.EnrolledItem(item.item_id, item.image) for item in items])


def open_detector(store_url: str) -> Detector:
    """The served detector, opened in this process."""
    catalogue = Catalogue.open(Store.open(store_url).prefixed("anomaly"))
    entry = catalogue.read().find("parts")
    device = torch.device("cpu")
    model = load_model(catalogue.load_model(entry), device)
    return Detector(model, catalogue.open_bank(entry, model.engine.layout).refresh(), None, device)


def add_throughput(figures: Figures, client: mekiki.Client, detector: Detector, images: list) -> None:
    """Images a second in turn here and there, so that both meet the same machine; every score must be equal."""
    ratios, rates = [], []
    for number in range(ROUNDS + 1):
        start = time.perf_counter()
        here = [detector.score_image(image, heatmap_side=256).score for image in images]
        middle = time.perf_counter()
        there = [answer.value.score for answer in client.anomaly.score_images("parts", images, heatmap_side=256)]
        end = time.perf_counter()
        if here != there:
            raise RuntimeError("a served score differs from the one computed here")
        if number > 0:  # the first round warms up
            ratios.append((middle - start) / (end - middle))
            rates.append(len(images) / (end - middle))
    figures.add("served / in-process throughput, median of rounds", statistics.median(ratios), "", 0.95)
    figures.add("served throughput", statistics.median(rates), "images/s")


def add_latency(figures: Figures, client: mekiki.Client, images: list) -> None:
    """One camera that waits for each answer."""
    seconds = []
    for number in range(CALLS):
        start = time.perf_counter()
        client.anomaly.score_image("parts", images[number % len(images)])
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    median, high = statistics.median(seconds), seconds[int(0.99 * len(seconds))]
    figures.add("one camera: median", 1000 * median, "ms")
    figures.add("one camera: p99 / p50", high / median, "", 1.5, "lower")


if __name__ == "__main__":
    main()
