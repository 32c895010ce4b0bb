"""What it costs to judge several kinds of parts by one detector, through the served path.

One `patch` detector on raw images of three kinds: screws and magnetic tiles (photos), nuts (rendered, see
`mekiki.sample_parts`). Each kind is judged by a detector of its own; by that of all kinds, which has to find the kind
by itself; and by it where the kind is given, which must score as the detector of its own does, to the last bit. Weights
come from MEKIKI_WEIGHTS_DIR.
"""

import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import mekiki
from mekiki.cli.datasets import to_new_item
from mekiki.cli.folder import read_folder
from mekiki.sample_parts import render_parts
from services.anomaly.curves import compute_auroc
from tests.bench.detectors import find_data, make, serving
from tests.bench.figures import Figures

DATASET, ALL, GOOD = "parts", "all", "good"
REAL = ("screw", "tile")
RENDERED = "nut"
RENDERED_COUNT = 150  # of which 90 train
RATE = 0.05
ROUNDS, TIMED = 5, 20


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_categories.json."""
    missing = [str(find_data(kind)) for kind in REAL if not find_data(kind).is_dir()]
    if missing:
        print(f"skipped: {', '.join(missing)} does not exist (set MEKIKI_TEST_DATA)")
        return
    figures = Figures("anomaly_categories")
    with tempfile.TemporaryDirectory() as folder, serving() as client:
        render_parts(Path(folder), RENDERED_COUNT, seed=1, kinds=(RENDERED,))
        folders = {kind: find_data(kind) for kind in REAL} | {RENDERED: Path(folder)}
        client.codec.create_dataset(DATASET)
        for kind, images in folders.items():
            push_kind(client, kind, images)
            make(client, kind, select(kind, "train"), mekiki.PatchEngine())
        make_all(client, tuple(folders))
        for kind in folders:
            add_verdicts(figures, client, kind)
        add_times(figures, client, tuple(folders))
    figures.finish()


def select(kind: str, split: str) -> mekiki.ItemFilter:
    """The items of one kind."""
    return mekiki.ItemFilter(DATASET, labels=(kind,), splits=(split,))


def push_kind(client: mekiki.Client, kind: str, folder: Path) -> None:
    """Stores the images of a folder, labelled with their kind, then as they were; some names are there in each."""
    items = (
        replace(item, item_id=f"{kind}/{item.item_id}", labels=(kind, *item.labels), mask=None)
        for item in map(to_new_item, read_folder(folder).files)
    )
    for answer in client.codec.append_items(DATASET, items):
        if answer.error is not None:
            raise answer.error


def make_all(client: mekiki.Client, kinds: tuple[str, ...]) -> None:
    """One detector of all kinds, calibrated; a pretrained patch detector has the same embedder whatever it saw."""
    own = client.anomaly.get_detector(kinds[0])
    client.anomaly.train_detector(
        ALL, select(kinds[0], "train"), engine=mekiki.PatchEngine(), backbone=own.weights.backbone
    ).result(3600)
    for kind in kinds:
        found = client.codec.read_items(select(kind, "train"), metadata_only=True)
        refs = (mekiki.ItemRef(DATASET, read.item.item_id) for read in found)
        client.anomaly.enroll_items(ALL, [mekiki.EnrolledItem(ref.item_id, ref, kind) for ref in refs])
    normals = mekiki.ItemFilter(DATASET, splits=("train",))
    client.anomaly.calibrate_detector(ALL, normals, false_alarm_rate=RATE).result(3600)


def score(
    client: mekiki.Client, detector: str, images: Iterable[mekiki.ImageLike], category: str = ""
) -> Iterator[mekiki.ScoredImage]:
    """Yields the answers, in order."""
    for answer in client.anomaly.score_images(detector, images, heatmap_side=0, category=category):
        if answer.error is not None:
            raise answer.error
        yield answer.value


def add_verdicts(figures: Figures, client: mekiki.Client, kind: str) -> None:
    """How surely the test images of one kind are judged, each way."""
    items = [read.item for read in client.codec.read_items(select(kind, "test"), metadata_only=True)]
    is_bad = np.array([GOOD not in item.labels for item in items])
    refs = [mekiki.ItemRef(DATASET, item.item_id) for item in items]
    own = list(score(client, kind, refs))
    given = list(score(client, ALL, refs, kind))
    if [each.score for each in given] != [each.score for each in own]:
        raise RuntimeError(f"{kind}: a score differs from that of a detector of its own")
    found = list(score(client, ALL, refs))
    right = np.array([each.category == kind for each in found])
    figures.add(f"{kind}: image AUROC, a detector of its own, or the kind given", measure(own, is_bad), "")
    figures.add(f"{kind}: image AUROC, among all, the kind not given", measure(found, is_bad), "")
    figures.add(f"{kind}: taken for their kind, good images of {(~is_bad).sum()}", right[~is_bad].sum(), "images")
    figures.add(f"{kind}: taken for their kind, bad images of {is_bad.sum()}", right[is_bad].sum(), "images")
    called = np.array([each.is_anomalous for each in found])
    figures.add(f"{kind}: false alarms at {RATE:.0%}, of {(~is_bad).sum()}", called[~is_bad].sum(), "images")
    figures.add(f"{kind}: misses, of {is_bad.sum()}", (~called[is_bad]).sum(), "images")


def measure(scored: list[mekiki.ScoredImage], is_bad: np.ndarray) -> float:
    """Area under the ROC curve."""
    return compute_auroc(np.array([each.score for each in scored]), is_bad)


def add_times(figures: Figures, client: mekiki.Client, kinds: tuple[str, ...]) -> None:
    """What an image takes, each way in turn, so that all meet the same machine; some images of every kind."""
    images = {kind: read_some(client, kind) for kind in kinds}
    seconds: dict[str, list[float]] = {"one": [], "all": [], "given": []}
    for _ in range(ROUNDS):
        for way, each in seconds.items():
            start = time.perf_counter()
            for kind, some in images.items():
                list(score(client, kind if way == "one" else ALL, some, kind if way == "given" else ""))
            each.append((time.perf_counter() - start) / sum(map(len, images.values())))
    several = f"{len(kinds)} categories"
    titles = {"one": "one category", "all": several, "given": f"{several}, the kind given"}
    for way, each in seconds.items():
        figures.add(f"an image, {titles[way]}: median of {ROUNDS} rounds", 1000 * statistics.median(each), "ms")
    ratios = [many / one for one, many in zip(seconds["one"], seconds["all"], strict=True)]
    figures.add(f"an image, {several} / one: median of {ROUNDS} rounds", statistics.median(ratios), "")


def read_some(client: mekiki.Client, kind: str) -> list[mekiki.ImageLike]:
    """Some test images, pixels in memory."""
    some = [read.item.item_id for read in client.codec.read_items(select(kind, "test"), metadata_only=True)][:TIMED]
    return [read.pixels for read in client.codec.read_items(mekiki.ItemFilter(DATASET, item_ids=some))]


if __name__ == "__main__":
    main()
