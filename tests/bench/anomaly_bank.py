"""A bank of a million patch vectors: how fast it is searched, how surely the nearest is found, what it takes.

Vectors as engine `patch` enrols them, on MobileNetV2 at 192 px, the coreset of a half of each image's patches: tiles,
steel, screws, photos of raccoons and of CIFAR-10, one image of 16 left out, mirrored where that is not a million.
Queries: the patches of those left out. The peer is what a small bank does: every vector compared (FAISS, flat), on
the same vectors. Searches run in a process that has only loaded the bank. 2 threads.
"""

import gc
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import cv2
import faiss
import numpy as np
import psutil
import torch

from services.anomaly.backbones import DEFAULT_BACKBONE, hub_repo
from services.anomaly.bank import Bank
from services.anomaly.engines.engine import Embedding, Layout
from services.anomaly.engines.training import Journal
from services.anomaly.frames import Framing
from services.anomaly.model import Detector
from services.anomaly.snapshot import Snapshot
from services.anomaly.training import Model, PatchOptions, Plan, train_model
from services.runtime.errors import FailedPrecondition
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.runtime.weights import Weights, find_weights
from tests.bench.detectors import find_data
from tests.bench.figures import Figures

WANTED = int(os.environ.get("VECTORS", "1000000"))
FOLDERS = ("tile/train", "tile/test", "tile/train_defects", "steel", "screw", "cifar10", "raccoon/images")
LEFT_OUT = 16  # one image of so many
SINGLE, FLAT_SINGLE, ENROLMENTS = 5000, 300, 100
PLAN = Plan(PatchOptions(input_side_px=192, coreset_fraction=1 / 2), DEFAULT_BACKBONE)
LAYOUT = Layout("flat", 128)
MEGABYTE = 1 << 20


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_bank.json."""
    weights = find()
    if weights is None:
        return
    torch.set_num_threads(1)  # images of 192 px: a second thread only waits
    faiss.omp_set_num_threads(2)
    figures = Figures("anomaly_bank")
    model = train_model(PLAN, [], Framing(), weights.path, torch.device("cpu"), Journal(print, print))
    with tempfile.TemporaryDirectory() as folder:
        url = f"file://{folder}"
        fill(figures, url, model)
        queries = Path(folder) / "queries.npz"
        np.savez(queries, *[embed(model, cv2.imread(str(path))).vectors for path in list_images(left_out=True)])
        gc.collect()
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            measured = alone.submit(measure_search, url, queries).result()
        for figure in measured:
            figures.add(*figure)
        add_enrolments(figures, url, model)
    figures.finish()


def find() -> Weights | None:
    """The network's weights; None, with the reason, where these or the images are absent."""
    missing = [name for name in FOLDERS if not find_data(name).is_dir()]
    if missing:
        print(f"skipped: {find_data(missing[0])} does not exist (set MEKIKI_TEST_DATA)")
        return None
    directory = os.environ.get("MEKIKI_WEIGHTS_DIR")
    try:
        name = DEFAULT_BACKBONE
        return find_weights(name, str(hub_repo(name)), Path(directory) if directory else None, allow_hub=False)
    except FailedPrecondition as error:
        print(f"skipped: {error.message}")
        return None


def list_images(*, left_out: bool) -> list[Path]:
    """The images whose patches are queries, or those that are enrolled."""
    paths = chain.from_iterable(sorted(find_data(name).rglob("*.[jp][pn]g")) for name in FOLDERS)
    return [path for number, path in enumerate(paths) if (number % LEFT_OUT == 0) == left_out]


def read_images() -> Iterator[tuple[str, np.ndarray]]:
    """All images that are enrolled, then mirrored one way, the other way, and both."""
    for flip in (None, 1, 0, -1):
        for number, path in enumerate(list_images(left_out=False)):
            image = cv2.imread(str(path))
            yield f"{flip}-{number:05d}", image if flip is None else cv2.flip(image, flip)


def embed(model: Model, image: np.ndarray, *, contribute: bool = False) -> Embedding:
    """The patches of an image, or those that a bank keeps of it."""
    detector = Detector(model, Snapshot(0), None, torch.device("cpu"))
    image = np.ascontiguousarray(image[:, :, ::-1])
    return detector.contribute_item(image) if contribute else detector._embed(image)[1]


def open_bank(url: str) -> Bank:
    """The bank, read."""
    store = Store.open(url)
    return Bank(store, ManifestLog(store, "log"), LAYOUT)


def fill(figures: Figures, url: str, model: Model) -> None:
    """Enrols images until there are a million vectors, as a service does, and compacts."""
    bank, count, waiting = open_bank(url), 0, []
    for name, image in read_images():
        waiting.append((name, "", embed(model, image, contribute=True)))
        count += len(waiting[-1][2].vectors)
        if len(waiting) == LEFT_OUT or count >= WANTED:
            bank.enroll(waiting)
            waiting = []
        if count >= WANTED:
            break
    figures.add("vectors", count, "")
    figures.add("items", len(bank.snapshot.items), "")
    figures.add("segments before compaction", len(bank.snapshot.segments), "")
    start = time.perf_counter()
    while bank.compact():
        pass
    figures.add("compaction of all of it, with index and its recall", time.perf_counter() - start, "s")
    figures.add("segments", len(bank.snapshot.segments), "")


def measure_search(url: str, queries: Path) -> list[tuple]:
    """In a process of its own: load, memory, latencies, recall; as arguments of `Figures.add`."""
    faiss.omp_set_num_threads(2)
    images = list(np.load(queries).values())
    gc.collect()
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    bank = open_bank(url)
    load_s = time.perf_counter() - start
    gc.collect()
    growth = psutil.Process().memory_info().rss - before
    snapshot = bank.snapshot
    rows = snapshot.all_vectors()
    indexed = max((s for s in snapshot.segments if s.inverted), key=lambda s: len(s.rows.owners))
    return [
        ("loading", load_s, "s"),
        ("memory", growth / MEGABYTE, "MB"),
        ("memory a vector (256 of them are its values)", growth / len(rows), "bytes"),
        ("lists", len(indexed.inverted.centroids), ""),
        ("lists that a search reads", indexed.inverted.probes, ""),
        ("recall that is stated", indexed.inverted.recall, "", 0.99),
        *measure_latencies(snapshot, images),
        *measure_peer(snapshot, rows, images),
    ]


def pick(images: list, count: int) -> np.ndarray:
    """(count, d) queries at random, of all images."""
    everything = np.concatenate(images)
    return everything[np.random.default_rng(0).choice(len(everything), count, replace=False)]


def search(snapshot: Snapshot, vectors: np.ndarray) -> np.ndarray:
    """Distances of the nearest."""
    return snapshot.nearest(vectors, np.zeros(len(vectors), np.int32)).distances


def time_each(call, arguments) -> np.ndarray:
    """Milliseconds of each call."""
    times = []
    for argument in arguments:
        start = time.perf_counter()
        call(argument)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def measure_latencies(snapshot: Snapshot, images: list) -> list[tuple]:
    """One vector after the other, and all of an image at once."""
    search(snapshot, images[0])
    single = time_each(lambda vector: search(snapshot, vector[None]), pick(images, SINGLE))
    whole = time_each(lambda image: search(snapshot, image), images[:40])
    size = float(np.median([len(image) for image in images[:40]]))
    return [
        ("search of one vector, median", float(np.median(single)), "ms"),
        ("search of one vector, p99", float(np.percentile(single, 99)), "ms", 10, "lower"),
        ("vectors of an image, median", size, ""),
        ("search of a whole image, median", float(np.median(whole)), "ms"),
    ]


def measure_peer(snapshot: Snapshot, rows: np.ndarray, images: list) -> list[tuple]:
    """Flat search over the same vectors: its times, and how often we find what it finds."""
    flat = faiss.IndexFlatL2(rows.shape[1])
    flat.add(rows.astype(np.float32))
    single = time_each(lambda vector: flat.search(vector[None], 4), pick(images, FLAT_SINGLE).astype(np.float32))
    whole = time_each(lambda image: flat.search(image, 4), [image.astype(np.float32) for image in images[:4]])
    ours = time_each(lambda vector: search(snapshot, vector[None]), pick(images, FLAT_SINGLE))
    asked = pick(images, SINGLE)
    nearest = flat.search(asked.astype(np.float32), 4)[1]
    difference = rows[nearest].astype(np.float32) - asked[:, None].astype(np.float32)
    exact = np.sqrt((difference * difference).sum(axis=2)).min(axis=1)
    found = search(snapshot, asked)
    return [
        ("flat: one vector, p99", float(np.percentile(single, 99)), "ms"),
        ("flat: a whole image, median", float(np.median(whole)), "ms"),
        ("flat / ours, one vector, p99", float(np.percentile(single, 99) / np.percentile(ours, 99)), "x"),
        ("recall@1 on images that are not enrolled", float((found <= exact * (1 + 1e-6)).mean()), "", 0.99),
        ("mean of distance / nearest distance", float((found / np.maximum(exact, 1e-6)).mean()), ""),
    ]


def add_enrolments(figures: Figures, url: str, model: Model) -> None:
    """Enrols image by image, alone, then while a million vectors are compacted; searches meanwhile, too."""
    bank = open_bank(url)
    images = [embed(model, cv2.imread(str(path)), contribute=True) for path in list_images(left_out=True)]
    query = pick([image.vectors for image in images], 1)
    half = min(ENROLMENTS, len(images) // 2)
    alone = time_each(bank.enroll, [[(f"alone {n}", "", image)] for n, image in enumerate(images[:half])])
    bank.forget([min(bank.snapshot.items)])  # so that the whole segment is to be written again
    version = bank.snapshot.version
    compaction = threading.Thread(target=compact, args=(bank,))
    start = time.perf_counter()
    compaction.start()
    time.sleep(0.5)
    beside, searches, number = [], [], 0
    while compaction.is_alive():
        contribution = [(f"beside {number}", "", images[half + number % half])]
        beside += time_each(bank.enroll, [contribution]).tolist()
        searches += time_each(lambda vector: search(bank.snapshot, vector), [query] * 10).tolist()
        number += 1
        time.sleep(0.05)
    took_s = time.perf_counter() - start
    figures.add("enrolling an image, alone: median", float(np.median(alone)), "ms")
    figures.add("enrolling an image, alone: p99", float(np.percentile(alone, 99)), "ms")
    figures.add("compaction that takes one forgotten image out, beside enrolments", took_s, "s")
    figures.add("enrolments meanwhile", number, "")
    figures.add("enrolling an image meanwhile: median", float(np.median(beside)), "ms")
    figures.add("enrolling an image meanwhile: p99", float(np.percentile(beside, 99)), "ms")
    figures.add("enrolling an image meanwhile: slowest", max(beside), "ms")
    figures.add("search of one vector meanwhile: median", float(np.median(searches)), "ms")
    figures.add("search of one vector meanwhile: p99", float(np.percentile(searches, 99)), "ms")
    kept = bank.snapshot.items
    lost = sum(f"beside {n}" not in kept for n in range(number))
    figures.add("enrolments lost", lost, "", 0, "lower")
    figures.add("versions of the bank meanwhile", bank.snapshot.version - version, "")


def compact(bank: Bank) -> None:
    """As the service does it: on one core."""
    faiss.omp_set_num_threads(1)
    bank.compact()


if __name__ == "__main__":
    main()
