"""How surely screws are judged, through the served path (MVTec AD screw, split by group: see the data's README).

Every engine with its defaults, on prepared images (train/good -> test) and, for patch, on the images as they are. The
control: the heat map's background alone, on images that are aligned and not blanked. `metric` is the baseline of the
system it comes from. Weights come from MEKIKI_WEIGHTS_DIR; without any, "small" runs and says so.
"""

import os
import time

import numpy as np

import mekiki
from tests.bench.detectors import find_data, judge, make, push, serving
from tests.bench.figures import Figures

PREPARED = mekiki.ItemForm.PREPARED
ENGINES: dict[str, tuple[mekiki.Engine, float | None]] = {
    "patch": (mekiki.PatchEngine(), 0.995),
    "padim": (mekiki.PadimEngine(), None),
    "metric": (mekiki.MetricEngine(epochs=int(os.environ.get("EPOCHS", "10"))), None),
}
TESTS = mekiki.ItemFilter("screw", splits=("test",))


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_screw.json."""
    data = find_data("screw")
    if not data.is_dir():
        print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
        return
    figures = Figures("anomaly_screw")
    chosen = os.environ.get("ENGINES", "patch,padim,metric,raw,control").split(",")
    with serving() as client:
        push(client, "screw", data)
        whole = encode(client, blank=False)
        prepared = encode(client, blank=True)
        for name in [name for name in ENGINES if name in chosen]:
            add_engine(figures, client, name, mekiki.ItemFilter("screw", splits=("train",), form=PREPARED))
        if "raw" in chosen:
            raw = make(client, "raw", mekiki.ItemFilter("screw", splits=("train",)), mekiki.PatchEngine())
            figures.add("patch, raw images: image AUROC", judge(client, raw, TESTS).image_auroc, "", 0.95)
        if "control" in chosen:
            figures.add("patch, heat map's background alone: image AUROC", control(client, whole, prepared), "")
    figures.finish()


def encode(client: mekiki.Client, *, blank: bool) -> mekiki.Encoding:
    """Prepares all images."""
    options = mekiki.EncodingOptions(background=mekiki.BackgroundRemoval.CONTRAST, blank_background=blank)
    return client.codec.encode_dataset("screw", options=options).result(1800).encoding


def add_engine(figures, client, name, normals):
    """Trains, enrols, calibrates and evaluates one engine."""
    engine, goal = ENGINES[name]
    start = time.perf_counter()
    made = make(client, name, normals, engine)
    figures.add(f"{name}: training and enrolling 200 images", time.perf_counter() - start, "s")
    client.anomaly.calibrate_detector(name, normals, false_alarm_rate=0.05, confidence=0.95).result(3600)
    evaluation = judge(client, made, TESTS)
    figures.add(f"{name} on {made.weights.backbone}: image AUROC, served", evaluation.image_auroc, "", goal)
    for rate, title in ((evaluation.false_alarms, "false alarms"), (evaluation.misses, "misses")):
        figures.add(f"{name}: {title} at 5 %, of {rate.total}", rate.count, "images")
    for shortcut in evaluation.shortcuts:
        figures.add(f"the {shortcut.name} alone: image AUROC", shortcut.image_auroc, "")


def control(client: mekiki.Client, whole: mekiki.Encoding, prepared: mekiki.Encoding) -> float:
    """AUROC of the hottest cell outside of every part, of a detector that sees what is around the parts, too."""
    normals = mekiki.ItemFilter("screw", splits=("train",), form=PREPARED, encoding_id=whole.encoding_id)
    make(client, "whole", normals, mekiki.PatchEngine())
    outside = ~prepared.categories[0].mask
    good, bad = [], []
    for read in client.codec.read_items(TESTS, metadata_only=True):
        ref = mekiki.ItemRef("screw", read.item.item_id, PREPARED, whole.encoding_id)
        heat = client.anomaly.score_image("whole", ref, heatmap_side=max(outside.shape)).heatmap.values
        (good if read.item.label == "good" else bad).append(float(heat[outside].max()))
    pairs = np.subtract.outer(bad, good)
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


if __name__ == "__main__":
    main()
