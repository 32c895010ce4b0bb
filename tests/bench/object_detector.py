"""Proof by a detector (origins section 1, experiment b): labels become boxes, and boxes a detector of many objects.

For each study: a classifier learns from labelled pictures of single things, boxfit draws a box on each of 2,500, and a
detector learns from 100, 500, 1000 and all of them, all trainings of the same length, with several seeds (which also
choose the pictures). It is judged on scenes of many things, at whose boxes nothing has ever looked. The same again
with boxes around the masks of a segmenter, which learnt from the same labels, and with boxes that boxfit drew after a
person had shown it 20 of each label. Beside them a detector that learnt from the true boxes of all pictures.

Everything lies in a house of its own under build/bench/object_detector, so that a bench that was interrupted goes on:
what was annotated and trained stays. Writes box plots and pictures of the same scene at each size there.

STUDIES (rendered,boltnut,steel), BOXES (drawn,segmented,calibrated), SIZES, SEEDS, LABELLED, PICTURES (seen in a
training) and INPUT (pixels) choose less.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice

import numpy as np

import mekiki
from mekiki.cli.detection import draw_objects
from services.saliency.detection.average_precision import Found, Truth, compute_ious, measure_precision
from tests.bench.figures import FOLDER, Figures
from tests.bench.object_studies import EMPTY, Picture, Study, list_studies
from tests.running import running_services

HOME = FOLDER / "object_detector"
SIZES = [int(size) for size in os.environ.get("SIZES", "100,500,1000,2500").split(",")]
SEEDS = range(int(os.environ.get("SEEDS", "3")))
BOXES = os.environ.get("BOXES", "drawn,segmented,calibrated").split(",")
SHOWN_TO_BOXFIT = 20  # true boxes of each label
PICTURES = int(os.environ.get("PICTURES", "4000"))
INPUT = int(os.environ.get("INPUT", "320"))
LABELLED = int(os.environ.get("LABELLED", "400"))  # pictures that the classifier learns from
VALIDATION = 0.2
SHOWN = 2  # scenes of each study that are drawn at every size
ROOM_S = 4 * 3600.0


@dataclass(frozen=True)
class Cell:
    """One training judged: mean average precision at IoU .5 and over .5, .55 ... .95."""

    study: str
    boxes: str
    size: int
    seed: int
    precision_50: float
    precision: float


def main() -> None:
    """Measures, prints and writes build/bench/object_detector.json, plots and pictures."""
    figures = Figures("object_detector")
    wanted = os.environ.get("STUDIES", "rendered,boltnut,steel").split(",")
    with house() as client:
        for study in list_studies():
            if study.name in wanted:
                run_study(client, figures, study)
    figures.finish()


@contextmanager
def house() -> Iterator[mekiki.Client]:
    """The four services with a store that stays; what was under way when it was left is finished first."""
    HOME.mkdir(parents=True, exist_ok=True)
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("MEKIKI_WEIGHTS")}
    with running_services(HOME, passed_on) as running, mekiki.Client(running.address) as client:
        for operation in client.operations.list_operations("saliency"):
            operation.wait(ROOM_S)
        yield client


def run_study(client: mekiki.Client, figures: Figures, study: Study) -> None:
    """All cells of one study, then its figures, plot and pictures."""
    pictures = {one.name: one for one in map(study.draw, range(max(SIZES)))}
    scenes = study.read_scenes()
    push(client, name_set(study, "exact"), pictures, exact=True)
    cells = []
    for boxes in BOXES:
        usable = prepare(client, figures, study, pictures, boxes)
        cells += [run_cell(client, study, usable, size, seed, scenes, boxes) for size in SIZES for seed in SEEDS]
    cells += [run_cell(client, study, sorted(pictures), max(SIZES), seed, scenes, "exact") for seed in SEEDS]
    for column in list_columns():
        report(figures, study, [cell for cell in cells if (cell.boxes, cell.size) == column])
    for boxes in BOXES:
        ends = [np.median([c.precision_50 for c in cells if (c.boxes, c.size) == (boxes, size)]) for size in SIZES]
        title = f"{study.name}: mAP@.5 of {SIZES[-1]} pictures with {boxes} boxes over that of {SIZES[0]}"
        figures.add(title, ends[-1] - ends[0], "", 0.01)
    plot(study, cells)
    draw_scenes(client, study, scenes[:SHOWN])


def list_columns() -> list[tuple[str, int]]:
    """Boxes and sizes that detectors learn from."""
    return [(boxes, size) for boxes in BOXES for size in SIZES] + [("exact", max(SIZES))]


def name_set(study: Study, boxes: str) -> str:
    """The data set of a study's pictures with such boxes."""
    return study.name if boxes == "drawn" else f"{study.name}-{boxes}"


def prepare(
    client: mekiki.Client, figures: Figures, study: Study, pictures: dict[str, Picture], boxes: str
) -> list[str]:
    """Labels in, boxes out; gives the items that a detector may learn from: those with a box, and the empty ones."""
    dataset = name_set(study, boxes)
    push(client, dataset, pictures, exact=False)
    learnt = mekiki.ItemFilter(dataset, item_ids=sorted(pictures)[:LABELLED])
    if study.name not in {one.name for one in client.saliency.list_classifiers()}:
        train_classifier(client, study.name, learnt)
    if boxes == "segmented" and study.name not in {one.name for one in client.saliency.list_segmenters()}:
        backbone = client.saliency.get_classifier(study.name).weights.backbone
        trained = client.saliency.train_segmenter(study.name, learnt, normal_labels=(EMPTY,), backbone=backbone)
        trained.result(ROOM_S)
    mark = HOME / f"{dataset}-annotated-{len(pictures)}"
    if not mark.exists():
        annotated = client.boxfit.annotate_dataset(
            "" if boxes == "segmented" else study.name,
            dataset,
            use_item_labels=True,
            skip_labels=(EMPTY,),
            calibration=calibrate(client, study, pictures) if boxes == "calibrated" else None,
            segmenter=study.name if boxes == "segmented" else "",
        )
        print(dataset, annotated.result(ROOM_S))
        mark.touch()
    items = [read.item for read in client.codec.read_items(dataset, metadata_only=True)]
    ious = [judge_box(item, pictures[item.item_id]) for item in items if item.annotations and item.item_id in pictures]
    share = float(np.mean(np.array(ious) >= 0.5))
    figures.add(f"{study.name}: {boxes} boxes with an IoU of .5 or more with a true one", share, "")
    figures.add(f"{study.name}: mean IoU of {boxes} boxes", float(np.mean(ious)), "")
    return sorted(i.item_id for i in items if i.item_id in pictures and (i.annotations or i.label == EMPTY))


def calibrate(client: mekiki.Client, study: Study, pictures: dict[str, Picture]) -> mekiki.BoxCalibration:
    """From true boxes of pictures that the classifier has learnt from."""
    told: dict[str, list[str]] = {}
    for name in sorted(pictures)[:LABELLED]:
        if pictures[name].label != EMPTY:
            told.setdefault(pictures[name].label, []).append(name)
    shown = [name for names in told.values() for name in names[:SHOWN_TO_BOXFIT]]
    items = mekiki.ItemFilter(name_set(study, "exact"), item_ids=shown)
    return client.boxfit.calibrate_boxes(study.name, items).result(ROOM_S).calibration


def push(client: mekiki.Client, dataset: str, pictures: dict[str, Picture], *, exact: bool) -> None:
    """Stores pictures with their labels, and with their true boxes only if `exact`."""
    if dataset not in {one.name for one in client.codec.list_datasets()}:
        client.codec.create_dataset(dataset)
    there = {read.item.item_id for read in client.codec.read_items(dataset, metadata_only=True)}
    lacking = [one for name, one in pictures.items() if name not in there]
    for answer in client.codec.append_items(dataset, (to_item(one, exact=exact) for one in lacking)):
        if answer.error is not None:
            raise answer.error


def to_item(picture: Picture, *, exact: bool) -> mekiki.NewItem:
    """As it is pushed."""
    marks = [
        mekiki.Annotation(to_box(box, picture.pixels.shape), label, state=mekiki.AnnotationState.ACCEPTED)
        for box, label in zip(picture.boxes, picture.labels, strict=True)
    ]
    return mekiki.NewItem(picture.name, picture.pixels, [picture.label], annotations=marks if exact else ())


def to_box(box: Sequence[float], shape: tuple[int, ...]) -> mekiki.Box:
    """In whole pixels within the picture."""
    left, top, right, bottom = (round(value) for value in box)
    return mekiki.Box(max(0, left), max(0, top), min(shape[1], right), min(shape[0], bottom))


def train_classifier(client: mekiki.Client, name: str, items: mekiki.ItemFilter) -> None:
    """With pretrained weights; where there are none, "small", which is said."""
    try:
        client.saliency.train_classifier(name, items).result(ROOM_S)
    except mekiki.errors.FailedPrecondition as error:
        print(error.message)
        client.saliency.train_classifier(name, items, backbone="small").result(ROOM_S)


def judge_box(item: mekiki.Item, picture: Picture) -> float:
    """The best IoU of the item's box with a true one."""
    box = item.annotations[0].box
    drawn = np.array([[box.x_min, box.y_min, box.x_max, box.y_max]], np.float32)
    return float(compute_ious(drawn, np.array(picture.boxes, np.float32).reshape(-1, 4)).max(initial=0))


def run_cell(
    client: mekiki.Client,
    study: Study,
    usable: Sequence[str],
    size: int,
    seed: int,
    scenes: Sequence[Picture],
    boxes: str,
) -> Cell:
    """Trains where that was not done before, and judges."""
    name = name_cell(study, size, seed, boxes)
    path = HOME / "cells" / f"{name}.json"
    if path.exists():
        return Cell(**json.loads(path.read_text()))
    if name not in {one.name for one in client.saliency.list_object_detectors()}:
        train_detector(client, study, name, choose(usable, size, seed), seed, boxes)
    detections = list(client.saliency.detect_objects_in_images(name, [s.pixels for s in scenes], min_score=0.01))
    labels = client.saliency.get_object_detector(name).labels
    precision = measure_precision(
        [to_truth(scene, labels) for scene in scenes], [to_found(answer.value, labels) for answer in detections]
    )
    cell = Cell(study.name, boxes, size, seed, precision.mean_50, precision.mean)
    print(cell, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(cell)))
    return cell


def name_cell(study: Study, size: int, seed: int, boxes: str) -> str:
    """Also of its detector; with all that makes it another one."""
    return f"{study.name}-{boxes}-{size}-seed{seed}-{PICTURES}x{INPUT}"


def choose(usable: Sequence[str], size: int, seed: int) -> list[str]:
    """So many of the items, which ones by the seed."""
    return sorted(np.random.default_rng(seed).permutation(list(usable))[:size].tolist())


def train_detector(client: mekiki.Client, study: Study, name: str, item_ids: list[str], seed: int, boxes: str) -> None:
    """All trainings see the same number of pictures, composed of few items or of many."""
    items = mekiki.ItemFilter(name_set(study, boxes), item_ids=item_ids)
    epochs = max(1, round(PICTURES / ((1 - VALIDATION) * len(item_ids))))
    backbone = client.saliency.get_classifier(study.name).weights.backbone
    client.saliency.train_object_detector(
        name,
        items,
        include_proposed=True,
        backbone=backbone,
        epochs=min(500, epochs),
        input_size=INPUT,
        validation_fraction=VALIDATION,
        scene_share=study.scene_share,
        seed=seed,
    ).result(ROOM_S)


def to_truth(scene: Picture, labels: Sequence[str]) -> Truth:
    """Labels that the detector does not know get numbers that it never tells."""
    numbers = [labels.index(one) if one in labels else len(labels) for one in scene.labels]
    return Truth(np.array(scene.boxes, np.float32).reshape(-1, 4), np.array(numbers, np.int64))


def to_found(detection: mekiki.Detection, labels: Sequence[str]) -> Found:
    """As average precision wants it."""
    boxes = [(o.box.x_min, o.box.y_min, o.box.x_max, o.box.y_max) for o in detection.objects]
    numbers = [labels.index(one.label) for one in detection.objects]
    scores = [one.score for one in detection.objects]
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Found(array, np.array(numbers, np.int64), np.array(scores, np.float32))


def report(figures: Figures, study: Study, cells: Sequence[Cell]) -> None:
    """Medians over seeds with their ranges, against the scenes' boxes."""
    for what, values in (("@.5", [c.precision_50 for c in cells]), ("@[.5:.95]", [c.precision for c in cells])):
        told = f"{study.name}: mAP{what}, {cells[0].size} pictures with {cells[0].boxes} boxes"
        spread = f"{min(values):.3f} to {max(values):.3f}, {len(values)} seeds, {study.truth}"
        figures.add(f"{told} ({spread})", float(np.median(values)), "")


def plot(study: Study, cells: Sequence[Cell]) -> None:
    """Box plots over seeds, a box for each size of each kind of boxes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2))
    for place, (what, title) in enumerate((("precision_50", "mAP@.5"), ("precision", "mAP@[.5:.95]")), 1):
        axes = figure.add_subplot(1, 2, place)
        values = [[getattr(c, what) for c in cells if (c.boxes, c.size) == column] for column in list_columns()]
        axes.boxplot(values, tick_labels=[f"{size}\n{boxes}" for boxes, size in list_columns()])
        axes.set(title=f"{study.name}: {title}", xlabel="pictures, and whose boxes they have", ylim=(0, 1.02))
        axes.grid(visible=True, axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(HOME / f"{study.name}-curve.png", dpi=110)


def draw_scenes(client: mekiki.Client, study: Study, scenes: Sequence[Picture]) -> None:
    """The same scenes as seen at each size, with the last kind of boxes, the first seed, scores of .3 and up."""
    from PIL import Image

    for number, scene in enumerate(scenes):
        shown = []
        for size in SIZES:
            name = name_cell(study, size, SEEDS[0], BOXES[-1])
            labels = client.saliency.get_object_detector(name).labels
            found = client.saliency.detect_objects(name, scene.pixels)
            shown.append(draw_objects(scene.pixels, found.objects, labels))
        sheet = Image.fromarray(np.hstack(list(islice(shown, 8))))
        sheet.thumbnail((2400, 2400))
        sheet.save(HOME / f"{study.name}-scene{number}.png")


if __name__ == "__main__":
    main()
