"""Whether the rate factor that TuneCompression finds without any real defect is one that real defects agree with.

MVTec AD screws, prepared as codec does it, frames of 512 px; the judge is padim (MobileNetV2, 384 px). The test set,
which the search does not see, is judged at every rate factor that was tried: that loss stands beside the one that was
found on made-up defects. SIDE and DATASET choose another run. Weights come from MEKIKI_WEIGHTS_DIR.
"""

import os
import time
from pathlib import Path

import numpy as np

import mekiki
from mekiki.report.tuning import write_tuning
from tests.bench.detectors import find_data, push, serving
from tests.bench.figures import FOLDER, Figures
from tests.bench.judging import find_backbone, make_detector, measure_auroc
from tests.bench.preparing import read_pictures

SIDE = int(os.environ.get("SIDE", "512"))
DATASET = os.environ.get("DATASET", "screw")
ENGINE, SIDE_PX, MAX_LOSS = os.environ.get("ENGINE", "padim"), 384, 0.005
JUDGES = {"padim": mekiki.PadimEngine, "patch": mekiki.PatchEngine}


def main() -> None:
    """Measures, prints and writes build/bench/codec_tuning.json, and the report that `mekiki encode` writes."""
    figures = Figures("codec_tuning")
    data, weights = find_data(DATASET), find_backbone()
    if not data.is_dir() or weights is None:
        print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
        return
    with serving() as client:
        push(client, DATASET, data)
        options = mekiki.EncodingOptions(background=mekiki.BackgroundRemoval.CONTRAST, frame_side=SIDE)
        encoding = client.codec.encode_dataset(DATASET, options=options).result(1800).encoding
        normals = mekiki.ItemFilter(
            DATASET, splits=("train",), form=mekiki.ItemForm.PREPARED, encoding_id=encoding.encoding_id
        )
        judge = mekiki.Configuration("judge", normals, JUDGES[ENGINE](input_side=SIDE_PX))
        start = time.perf_counter()
        tuned = client.anomaly.tune_compression(judge, max_loss=MAX_LOSS).result(3600)
        figures.add(f"{DATASET}: finding the rate factor", time.perf_counter() - start, "s")
        report = FOLDER / f"codec_tuning_{DATASET}"
        report.mkdir(parents=True, exist_ok=True)
        print("report:", write_tuning(tuned, DATASET, MAX_LOSS, report))
        add_truth(figures, client, encoding, tuned, data, weights)
    figures.finish()


def add_truth(
    figures: Figures,
    client: mekiki.Client,
    encoding: mekiki.Encoding,
    tuned: mekiki.CompressionTuning,
    data: Path,
    weights: Path,
) -> None:
    """Judges the test set at every rate factor that was tried."""
    names = [
        read.item.item_id
        for read in client.codec.read_items(mekiki.ItemFilter(DATASET, splits=("train",)), metadata_only=True)
    ]
    tests = [prepare(client, read_pictures(data / "test" / kind)) for kind in ("good", "bad")]
    mask = encoding.categories[0].mask

    def judge(train: list[np.ndarray]) -> float:
        return measure_auroc(make_detector(ENGINE, SIDE_PX, mask, train, weights), *tests)

    base = judge([answer.value.pixels for answer in prepare_items(client, names)])
    figures.add("made-up defects: images as sent, AUROC", tuned.raw_auroc, "")
    figures.add("made-up defects: prepared, AUROC", tuned.prepared_auroc, "")
    figures.add("test set: prepared, AUROC", base, "")
    for point in tuned.points:
        real = judge([shown.pixels for shown in client.codec.preview_encoding(DATASET, names, point.crf)])
        title = f"rate factor {point.crf}, {point.frame_bytes:.0f} bytes a frame"
        low, high = point.loss_interval
        figures.add(f"{title}: loss on made-up defects ({low:+.4f} to {high:+.4f})", point.loss, "")
        is_chosen = point.crf == tuned.crf
        goal = {"goal": MAX_LOSS, "better": "lower"} if is_chosen else {}
        figures.add(f"{title}: loss on the test set{', chosen' if is_chosen else ''}", base - real, "", **goal)


def prepare(client: mekiki.Client, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Prepares pictures as a line's are."""
    return [answer.value.pixels for answer in client.codec.prepare_images(DATASET, pictures)]


def prepare_items(client: mekiki.Client, names: list[str]) -> list[mekiki.Answer]:
    """Prepares items anew, without compressing them."""
    return list(client.codec.prepare_images(DATASET, [mekiki.ItemRef(DATASET, name) for name in names]))


if __name__ == "__main__":
    main()
