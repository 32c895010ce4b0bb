"""Origins section 5 reproduced: 2 against 3 made-up classes, three losses, several trials; and what Mekiki makes of it.

Recipe `original` on raw images at 224 px, MobileNetV2, 10 epochs; then on prepared images; then recipe `patches`. By
default 3 trials of each, of which nothing is chosen. Writes the reports with the box plots that `mekiki trials` writes.
TRIALS, DATASETS (screw,tile) and ROUTES (original,improved) choose less. Weights come from MEKIKI_WEIGHTS_DIR.
"""

import os
from dataclasses import replace

import mekiki
from mekiki.report.trials import write_trials
from tests.bench.detectors import find_data, push, serving
from tests.bench.figures import FOLDER, Figures

ORIGINAL, PATCHES = mekiki.MetricRecipe.ORIGINAL, mekiki.MetricRecipe.PATCHES
LOSSES = [
    (mekiki.MetricLoss.L2_SOFTMAX, 2),
    (mekiki.MetricLoss.L2_SOFTMAX, 3),
    (mekiki.MetricLoss.ARCFACE, 2),
    (mekiki.MetricLoss.ARCFACE, 3),
    (mekiki.MetricLoss.ADACOS, 3),  # AdaCos needs three
]
GAIN = 0.05  # of the improved recipe over its own baseline, on screw


def main() -> None:
    """Measures, prints and writes build/bench/anomaly_trials.json and a report for each data set."""
    figures = Figures("anomaly_trials")
    for name in os.environ.get("DATASETS", "screw,tile").split(","):
        data = find_data(name)
        if not data.is_dir():
            print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
            continue
        with serving() as client:
            push(client, name, data)
            if name == "screw":
                options = mekiki.EncodingOptions(background=mekiki.BackgroundRemoval.CONTRAST)
                client.codec.encode_dataset(name, options=options).result(1800)
            compare(client, figures, name)
    figures.finish()


def compare(client: mekiki.Client, figures: Figures, dataset: str) -> None:
    """All trials of one data set."""
    tests = mekiki.ItemFilter(dataset, splits=("test",))
    chosen = configure(dataset, os.environ.get("ROUTES", "original,improved").split(","))
    count = int(os.environ.get("TRIALS", "3"))
    series = client.anomaly.run_trials(chosen, tests, trial_count=count).result(6 * 3600)
    for one in series:
        aurocs = [trial.evaluation.image_auroc for trial in one.trials]
        spread = f"{min(aurocs):.3f} to {max(aurocs):.3f}"
        seconds = sum(trial.train_s for trial in one.trials) / count
        figures.add(f"{dataset}, {one.name}: median image AUROC ({spread}; {seconds:.0f} s)", one.median_auroc, "")
    medians = {one.name: one.median_auroc for one in series}
    baseline = max((value for name, value in medians.items() if name.startswith("original")), default=None)
    if dataset == "screw" and baseline is not None and "patches-prepared" in medians:
        figures.add("screw: patches over the best original", medians["patches-prepared"] - baseline, "", GAIN)
    print("report:", write_trials(client, series, dataset, {"good"}, FOLDER / f"anomaly_trials_{dataset}"))


def configure(dataset: str, routes: list[str]) -> list[mekiki.Configuration]:
    """What is compared; only screws are worth a pose, a tile is texture."""
    raw = mekiki.ItemFilter(dataset, splits=("train",))
    chosen = []
    if "original" in routes:
        for loss, classes in LOSSES:
            engine = mekiki.MetricEngine(loss, classes, recipe=ORIGINAL)
            chosen.append(mekiki.Configuration(f"original-{loss}-{classes}", raw, engine))
    if "improved" in routes and dataset == "screw":
        prepared = replace(raw, form=mekiki.ItemForm.PREPARED)
        chosen.append(mekiki.Configuration("original-prepared", prepared, mekiki.MetricEngine(recipe=ORIGINAL)))
        chosen.append(mekiki.Configuration("patches-prepared", prepared, mekiki.MetricEngine(recipe=PATCHES)))
    if "improved" in routes:
        chosen.append(mekiki.Configuration("patches-raw", raw, mekiki.MetricEngine(recipe=PATCHES)))
    return chosen


if __name__ == "__main__":
    main()
