"""How surely defects of magnetic tiles are judged and found, through the served path, against pixel truth, by kind.

Trained on train/good, judged on test, raw images. Weights come from MEKIKI_WEIGHTS_DIR.
"""

import os
import time

import mekiki
from tests.bench.detectors import find_data, judge, make, push, serving
from tests.bench.figures import Figures

ENGINES: dict[str, mekiki.Engine] = {"patch": mekiki.PatchEngine(), "padim": mekiki.PadimEngine()}
TESTS = mekiki.ItemFilter("tile", splits=("test",))
NORMALS = mekiki.ItemFilter("tile", splits=("train",))


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_tile.json."""
    data = find_data("tile")
    if not data.is_dir():
        print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
        return
    figures = Figures("anomaly_tile")
    with serving() as client:
        push(client, "tile", data)
        for name in os.environ.get("ENGINES", ",".join(ENGINES)).split(","):
            add_engine(figures, client, name)
    figures.finish()


def add_engine(figures: Figures, client: mekiki.Client, name: str) -> None:
    """Trains, enrols and evaluates one engine."""
    start = time.perf_counter()
    made = make(client, name, NORMALS, ENGINES[name])
    figures.add(f"{name}: training and enrolling 200 images", time.perf_counter() - start, "s")
    start = time.perf_counter()
    evaluation = judge(client, made, TESTS)
    figures.add(f"{name}: evaluating {len(evaluation.scores)} images", time.perf_counter() - start, "s")
    figures.add(f"{name}: image AUROC", evaluation.image_auroc, "")
    figures.add(f"{name}: pixel AUROC", evaluation.pixels.auroc, "")
    figures.add(f"{name}: PRO", evaluation.pixels.pro, "")
    for label in evaluation.labels:
        if label.pixels is not None:
            figures.add(f"{name}, {label.label} ({label.item_count}): image AUROC", label.image_auroc, "")
            figures.add(f"{name}, {label.label}: pixel AUROC", label.pixels.auroc, "")
            figures.add(f"{name}, {label.label}: PRO", label.pixels.pro, "")
    for shortcut in evaluation.shortcuts:
        figures.add(f"the {shortcut.name} alone: image AUROC", shortcut.image_auroc, "")


if __name__ == "__main__":
    main()
