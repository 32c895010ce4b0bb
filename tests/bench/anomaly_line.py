"""One camera on a line: ScoreImages at 10 images a second for MINUTES (10) while an item is enrolled every second.

Grey frames of 1024 px as a camera delivers them, each sent the moment it is due, whatever was answered so far: the
latency of an image counts from when it was due. It is missed when there is no answer, or one that comes a second late.
The detector is ENGINE: "place" (patch features compared place by place, as over a fixture), "anywhere" (patch with its
defaults) or "padim"; it judges frames as sent. The line learns what parts look like now: of the new items the last KEPT
(60) stay and older ones are forgotten, so that the bank does not grow; KEPT=0 keeps all. Memory is that of a server
process that has nothing but the services in it.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

import mekiki
from mekiki.sample_parts import render_parts
from tests.bench.figures import Figures
from tests.running import running_services

MINUTES = float(os.environ.get("MINUTES", "10"))
IMAGES_PER_S, ENROLMENTS_PER_S, LATE_S = 10, 1, 1.0
NORMALS, PICTURES, SIDE_PX = 40, 60, 1024
KEPT = int(os.environ.get("KEPT", "60"))
ENGINES = {
    "place": mekiki.PatchEngine(same_place=True),
    "anywhere": mekiki.PatchEngine(),
    "padim": mekiki.PadimEngine(),
}
MEGABYTE = 1 << 20
Frame = NDArray[np.uint8]  # (h, w)


@dataclass
class Line:
    """What the camera and those beside it have seen."""

    start: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds, of answered images
    failed: list[str] = field(default_factory=list)
    enrolled: list[float] = field(default_factory=list)  # seconds each took
    megabytes: list[float] = field(default_factory=list)  # of the service, once a second
    over: threading.Event = field(default_factory=threading.Event)


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_line.json."""
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("MEKIKI_WEIGHTS")}
    with tempfile.TemporaryDirectory() as name, running_services(Path(name), passed_on) as running:
        parts = draw_parts(Path(name) / "parts")
        process = psutil.Process(running.pid)
        with mekiki.Client(running.address) as client, mekiki.Client(running.address) as another:
            teach(client, parts[:NORMALS])
            for _ in client.anomaly.score_images("line", parts[:5]):
                pass  # warms up
            figures, line = Figures("anomaly_line"), Line(start=time.perf_counter())
            beside = [
                threading.Thread(target=enroll, args=(line, another, parts)),
                threading.Thread(target=weigh, args=(line, process)),
            ]
            for thread in beside:
                thread.start()
            watch(line, client, parts[NORMALS:])
            line.over.set()
            for thread in beside:
                thread.join()
    report(line, figures)


def draw_parts(folder: Path) -> list[Frame]:
    """Parts as frames; the first NORMALS are good."""
    render_parts(folder, count=PICTURES, seed=1, size=SIDE_PX)
    paths = sorted(folder.glob("t*/*/*.png"), key=lambda path: (path.parent.name != "good", path))
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]


def teach(client: mekiki.Client, parts: list[Frame]) -> None:
    """Trains, enrols and calibrates on good parts."""
    client.codec.create_dataset("parts")
    items = [mekiki.NewItem(f"{number:03d}", part, split="train") for number, part in enumerate(parts)]
    list(client.codec.append_items("parts", items))
    engine = ENGINES[os.environ.get("ENGINE", "place")]
    try:
        client.anomaly.train_detector("line", "parts", engine=engine).result(600)
    except mekiki.errors.FailedPrecondition as error:
        print(error.message)
        client.anomaly.train_detector("line", "parts", engine=engine, backbone="small").result(600)
    client.anomaly.enroll_items("line", [mekiki.EnrolledItem(item.item_id, item.image) for item in items])
    client.anomaly.calibrate_detector("line", "parts", false_alarm_rate=0.1, confidence=0.95).result(600)


def watch(line: Line, client: mekiki.Client, parts: list[Frame]) -> None:
    """Shows the parts in time and notes when each answer comes."""
    count = round(60 * MINUTES * IMAGES_PER_S)
    answers = client.anomaly.score_images("line", expose(line, parts, count), window=64)
    for number, answer in enumerate(answers):
        if answer.error is not None:
            line.failed.append(str(answer.error))
        else:
            line.latencies.append(time.perf_counter() - line.start - number / IMAGES_PER_S)


def expose(line: Line, parts: list[Frame], count: int) -> Iterator[Frame]:
    """A part whenever one is due."""
    for number in range(count):
        time.sleep(max(0.0, line.start + number / IMAGES_PER_S - time.perf_counter()))
        yield parts[number % len(parts)]


def enroll(line: Line, client: mekiki.Client, parts: list[Frame]) -> None:
    """A new item a second, until it is over; each is a picture that was enrolled before, under a name of its own."""
    number = 0
    while not line.over.wait(max(0.0, line.start + number / ENROLMENTS_PER_S - time.perf_counter())):
        before = time.perf_counter()
        client.anomaly.enroll_items("line", [mekiki.EnrolledItem(f"new-{number:05d}", parts[number % NORMALS])])
        line.enrolled.append(time.perf_counter() - before)
        if KEPT and number >= KEPT:
            client.anomaly.forget_items("line", [f"new-{number - KEPT:05d}"])
        number += 1


def weigh(line: Line, process: psutil.Process) -> None:
    """The service's resident memory, once a second."""
    while not line.over.wait(1):
        line.megabytes.append(process.memory_info().rss / MEGABYTE)


def report(line: Line, figures: Figures) -> None:
    """Fills in and prints."""
    latencies = 1000 * np.array(line.latencies)
    asked = round(60 * MINUTES * IMAGES_PER_S)
    missed = asked - len(latencies) + int((latencies > 1000 * LATE_S).sum())
    figures.add(f"missed of {asked} images: failed, or over {LATE_S:g} s late", missed, "images", 0, "lower")
    figures.add("failed", len(line.failed), "images", 0, "lower")
    figures.add("latency, median", float(np.median(latencies)), "ms")
    figures.add("latency, p99", float(np.quantile(latencies, 0.99)), "ms", 300, "lower")
    figures.add("latency, longest", float(latencies.max()), "ms")
    figures.add("enrolled", len(line.enrolled), "items")
    figures.add("enrolment, median", 1000 * float(np.median(line.enrolled)), "ms")
    figures.add("enrolment, p99", 1000 * float(np.quantile(line.enrolled, 0.99)), "ms")
    figures.add("memory of the service at the start", line.megabytes[0], "MB")
    figures.add("memory after a minute", line.megabytes[min(59, len(line.megabytes) - 1)], "MB")
    figures.add("memory at the end", line.megabytes[-1], "MB")
    figures.finish()
    for message in line.failed[:3]:
        print(message)


if __name__ == "__main__":
    main()
