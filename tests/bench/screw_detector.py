"""How surely the screws are judged, through the served path (MVTec AD screw, split by group: see the data's README).

Prepared images, train/good -> test. Both engines run with their defaults. The metric
engine is the baseline of origins §5. Weights come from MEKIKI_WEIGHTS_DIR; without any, "small" runs and says so.
"""

import os
import tempfile
from pathlib import Path

import mekiki
from tests.bench.figures import Figures
from tests.bench.screw import find_data
from tests.running import running_services

GOAL = 0.97
ENGINES = {"patch": mekiki.PatchEngine(), "metric": mekiki.MetricEngine(epochs=int(os.environ.get("EPOCHS", "10")))}


def main() -> None:
    """Measures, prints and writes build/bench/screw_detector.json."""
    data = find_data()
    if not data.is_dir():
        print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
        return
    figures = Figures("screw_detector")
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("MEKIKI_WEIGHTS")}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_services(Path(folder), passed_on) as running,
        mekiki.Client(running.address) as client,
    ):
        normals = push_and_encode(client, data)
        for name, engine in ENGINES.items():
            goal = GOAL if name == "patch" else None
            evaluation, backbone = judge(client, name, engine, normals)
            figures.add(f"{name} on {backbone}: image AUROC, served", evaluation.image_auroc, "", goal)
            for rate, title in ((evaluation.false_alarms, "false alarms"), (evaluation.misses, "misses")):
                figures.add(f"{name}: {title}, of {rate.total}", rate.count, "images")
    figures.finish()


def push_and_encode(client: mekiki.Client, data: Path) -> mekiki.ItemFilter:
    """Stores and prepares all images; returns the normals to train on."""
    client.codec.create_dataset("screw")
    items = (
        mekiki.NewItem(str(path.relative_to(data)), path, labels=(path.parent.name,), split=path.parent.parent.name)
        for path in sorted(data.glob("*/*/*.png"))
    )
    for answer in client.codec.append_items("screw", items):
        if answer.error is not None:
            raise answer.error
    options = mekiki.EncodingOptions(background=mekiki.BackgroundRemoval.CONTRAST)
    client.codec.encode_dataset("screw", options=options).result(1800)
    return mekiki.ItemFilter("screw", splits=("train",), form=mekiki.ItemForm.PREPARED)


def judge(client, name, engine, normals):
    """Trains, enrols, calibrates and evaluates one engine; returns the evaluation and the backbone."""
    try:
        client.anomaly.train_detector(name, normals, engine=engine).result(3600)
    except mekiki.errors.FailedPrecondition as error:
        print(error.message)
        client.anomaly.train_detector(name, normals, engine=engine, backbone="small").result(3600)
    found = client.codec.read_items(normals, metadata_only=True)
    refs = [mekiki.ItemRef("screw", read.item.item_id, form=mekiki.ItemForm.PREPARED) for read in found]
    client.anomaly.enroll_items(name, [mekiki.EnrolledItem(ref.item_id, ref) for ref in refs])
    client.anomaly.calibrate_detector(name, normals, false_alarm_rate=0.05, confidence=0.95).result(3600)
    tests = mekiki.ItemFilter("screw", splits=("test",))
    evaluation = client.anomaly.evaluate_detector(name, tests).result(3600)
    return evaluation, client.anomaly.get_detector(name).weights.backbone


if __name__ == "__main__":
    main()
