"""Boxes from labels alone, against people's boxes and against the original recipe, all of it through the services.

The recipe (Grad-CAM, threshold 0.3, GPyOpt with 20 + 10 boxes) has the same classifier. Calibration boxes come from
photos that the classifier was trained on, never from those that are judged: 5 and 20 of the raccoons, of the steel's
six defects each. Every judged photo counts, also one without a box. JUDGED (photos of each set) and RECIPE (of them
for the recipe, which takes seconds each) make a run shorter; SETS names the parts, SCENES how many of them. Pictures
lie in build/bench/annotation.
"""

import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import mekiki
from mekiki.sample_parts import render_kinds
from tests.bench.boxed import (
    Boxed,
    Photo,
    Pixels,
    draw_sheet,
    gather_raccoons,
    gather_steel,
    judge,
    measure_accuracy,
    measure_iou,
    read,
)
from tests.bench.detectors import find_data, serving
from tests.bench.figures import FOLDER, Figures

JUDGED, RECIPE = int(os.environ.get("JUDGED", "120")), int(os.environ.get("RECIPE", "40"))
SETS = os.environ.get("SETS", "raccoon,steel,scenes,cifar10").split(",")
GREEN, RED, BLUE = (0, 200, 0), (0, 0, 255), (255, 80, 0)
ORIGINAL = mekiki.FitOptions(mekiki.FitMethod.BAYESIAN, threshold=0.3, max_iterations=10)
GRAD_CAM = mekiki.ExplainOptions(mekiki.ExplainMethod.GRAD_CAM, flip=False)
SCENES, TILE_PX = int(os.environ.get("SCENES", "40")), 192
Note = mekiki.Annotation


def main() -> None:
    """Measures, prints and writes build/bench/annotation.json."""
    figures = Figures("annotation")
    gatherers = {"raccoon": gather_raccoons, "steel": gather_steel}
    with serving() as client:
        for name in SETS:
            if name != "scenes" and not find_data(name).is_dir():
                print(f"skipped: {find_data(name)} does not exist (set MEKIKI_TEST_DATA)")
            elif name in gatherers:
                measure_photos(figures, client, gatherers[name](JUDGED))
            elif name == "scenes":
                measure_scenes(figures, client)
            else:
                measure_cifar(figures, client)
    figures.finish()


def push(client: mekiki.Client, dataset: str, items: list[mekiki.NewItem]) -> None:
    """A data set of these items."""
    client.codec.create_dataset(dataset)
    for answer in client.codec.append_items(dataset, items):
        if answer.error is not None:
            raise answer.error


def train(client: mekiki.Client, name: str, learning: list[tuple[str, Pixels]]) -> mekiki.Classifier:
    """A classifier from labels alone; "small" where there are no weights, which is said."""
    push(client, name, [mekiki.NewItem(str(k), pixels, labels=[label]) for k, (label, pixels) in enumerate(learning)])
    try:
        return client.saliency.train_classifier(name, name).result(7200)
    except mekiki.errors.FailedPrecondition as error:
        print(error.message)
        return client.saliency.train_classifier(name, name, backbone="small").result(7200)


def measure_photos(figures: Figures, client: mekiki.Client, boxed: Boxed) -> None:
    """One set: the recipe, ours, and ours with calibration boxes."""
    classifier = train(client, boxed.name, boxed.learning)
    figures.add(f"{boxed.name}: classifier's validation accuracy", classifier.validation_accuracy, "")
    some = boxed.judged[:RECIPE]
    never = mekiki.ForegroundUse.NEVER
    recipe = annotate(client, boxed.name, some, options=ORIGINAL, explain=GRAD_CAM, foreground=never)
    before = add_quality(figures, f"{boxed.name}, {len(some)} photos: original recipe", some, recipe)
    plain = annotate(client, boxed.name, boxed.judged)
    add_quality(figures, f"{boxed.name}, the same {len(some)}: ours", some, plain[: len(some)], before)
    add_quality(figures, f"{boxed.name}, {len(boxed.judged)} photos: ours", boxed.judged, plain)
    add_confidence(figures, f"{boxed.name}: ours", boxed.judged, plain)
    best = plain
    for count in (5, 20):
        made = calibrate(client, boxed, count)
        best = annotate(client, boxed.name, boxed.judged, calibration=made)
        title = f"{boxed.name}: ours, {count} calibration boxes{'' if len(made.labels) <= 2 else ' a label'}"
        add_quality(figures, title, boxed.judged, best)
        add_confidence(figures, title, boxed.judged, best)
    add_latency(figures, client, boxed)
    pairs = list(zip(boxed.judged, best, strict=True))[:60]
    drawn = [(p.pixels, [(b, GREEN) for b in p.boxes] + [(n.box, RED) for n in notes[:1]]) for p, notes in pairs]
    draw_sheet(FOLDER / "annotation" / f"{boxed.name}.png", drawn)


def annotate(client: mekiki.Client, classifier: str, photos: list[Photo], **how: object) -> list[list[Note]]:
    """Proposals for each photo, best first; the label is known."""
    found = []
    for photo in photos:
        answer = client.boxfit.annotate_image(classifier, photo.pixels, label=photo.label, timeout_s=600, **how)
        found.append(list(answer.annotations))
    return found


def calibrate(client: mekiki.Client, boxed: Boxed, count: int) -> mekiki.BoxCalibration:
    """From `count` photos of each label that the classifier was trained on, with people's boxes accepted."""
    chosen: list[Photo] = []
    for label in sorted({photo.label for photo in boxed.training}):
        own = [photo for photo in boxed.training if photo.label == label and photo.boxes]
        chosen += random.Random(count).sample(own, min(count, len(own)))
    dataset = f"{boxed.name}-{count}"
    push(client, dataset, [mekiki.NewItem(photo.name, photo.pixels, labels=[photo.label]) for photo in chosen])
    for photo in chosen:
        # One box a photo: a person who is asked for five boxes draws the object that is meant, the largest.
        largest = max(photo.boxes, key=lambda box: box.width * box.height)
        note = Note(largest, photo.label, source="a person", state=mekiki.AnnotationState.ACCEPTED)
        client.codec.update_item(dataset, photo.name, annotations=[note])
    return client.boxfit.calibrate_boxes(boxed.name, dataset).result(3600).calibration


def add_quality(
    figures: Figures, title: str, photos: list[Photo], found: list[list[Note]], goal: float | None = None
) -> float:
    """Mean IoU, which is returned; share over .5; MaxBoxAccV2."""
    ious = [judge(notes[0].box if notes else None, photo) for photo, notes in zip(photos, found, strict=True)]
    figures.add(f"{title}: mean IoU", statistics.fmean(ious), "", goal)
    figures.add(f"{title}: share over IoU .5", float(np.mean(np.array(ious) >= 0.5)), "")
    figures.add(f"{title}: MaxBoxAccV2", measure_accuracy(ious), "")
    return statistics.fmean(ious)


def add_confidence(figures: Figures, title: str, photos: list[Photo], found: list[list[Note]]) -> None:
    """Whether scores tell good boxes from bad ones: the chance that a good one has the higher score; and by how much
    scores miss the share of good ones, over five equal parts.
    """
    scored = [
        (notes[0].score, judge(notes[0].box, photo) >= 0.5) for photo, notes in zip(photos, found, strict=True) if notes
    ]
    good = np.array([score for score, is_good in scored if is_good])
    bad = np.array([score for score, is_good in scored if not is_good])
    if len(good) and len(bad):
        higher = (good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean()
        figures.add(f"{title}: AUROC of the score for IoU over .5", float(higher), "")
    parts = np.array_split(np.array(sorted(scored)), 5)
    errors = [len(part) * abs(part[:, 0].mean() - part[:, 1].mean()) for part in parts if len(part)]
    figures.add(
        f"{title}: expected calibration error of the score", float(sum(errors) / len(scored)), "", better="lower"
    )


def add_latency(figures: Figures, client: mekiki.Client, boxed: Boxed) -> None:
    """From photo to box, over gRPC, one after the other, and as a stream."""
    photos = boxed.judged[:40]
    seconds = []
    for photo in photos:
        start = time.perf_counter()
        client.boxfit.annotate_image(boxed.name, photo.pixels, label=photo.label)
        seconds.append(time.perf_counter() - start)
    figures.add(
        f"{boxed.name}: one image after the other, median", 1000 * statistics.median(seconds), "ms", 60, "lower"
    )
    start = time.perf_counter()
    count = sum(
        answer.error is None for answer in client.boxfit.annotate_images(boxed.name, [p.pixels for p in photos])
    )
    figures.add(
        f"{boxed.name}: as a stream, per image", 1000 * (time.perf_counter() - start) / count, "ms", 60, "lower"
    )


def measure_scenes(figures: Figures, client: mekiki.Client) -> None:
    """Rendered parts, trained on one at a time, boxed where four to nine fields hold one to several of a kind.

    A scene is a mosaic of rendered pictures of another seed, some of a bare table. People's boxes are those of ten
    scenes of yet another seed.
    """
    with tempfile.TemporaryDirectory() as folder:
        learning, _ = render(Path(folder) / "learn", 160, seed=11)
        _, tiles = render(Path(folder) / "scenes", 160, seed=12)
        _, others = render(Path(folder) / "others", 80, seed=13)
    train(client, "kinds", learning)
    scenes = [draw_scene(tiles, seed) for seed in range(SCENES)]
    explain = mekiki.ExplainOptions(scales=(2.0,), flip=True)
    for search in mekiki.ObjectSearch:
        options = mekiki.FitOptions(max_objects=20, object_search=search)
        add_scenes(figures, client, scenes, search.value, options=options, explain=explain)
    push_scenes(client, "judged-scenes", [draw_scene(others, 1000 + seed) for seed in range(10)])
    made = client.boxfit.calibrate_boxes("kinds", "judged-scenes", explain=explain).result(3600).calibration
    several = mekiki.FitOptions(max_objects=20)
    count = sum(lesson.box_count for lesson in made.labels if not lesson.label)
    title = f"components, {count} calibration boxes"
    found = add_scenes(figures, client, scenes, title, options=several, calibration=made)
    drawn = [
        (pixels, [(box, GREEN) for box in boxes] + [(note.box, RED) for note in notes])
        for (pixels, _, boxes), notes in zip(scenes, found, strict=True)
    ]
    draw_sheet(FOLDER / "annotation" / "scenes.png", drawn)


def push_scenes(client: mekiki.Client, dataset: str, scenes: list) -> None:
    """Scenes with all boxes of the label looked for, as a person draws them."""
    push(client, dataset, [mekiki.NewItem(str(number), pixels) for number, (pixels, _, _) in enumerate(scenes)])
    for number, (_, label, boxes) in enumerate(scenes):
        state = mekiki.AnnotationState.ACCEPTED
        notes = [Note(box, label, source="a person", state=state) for box in boxes]
        client.codec.update_item(dataset, str(number), annotations=notes)


Tile = tuple[str, Pixels, mekiki.Box | None]


def render(folder: Path, count: int, seed: int) -> tuple[list[tuple[str, Pixels]], list[Tile]]:
    """Labelled pictures, and the same with their true boxes."""
    render_kinds(folder, count=count, seed=seed, size=TILE_PX)
    truth = json.loads((folder / "boxes.json").read_text())["images"]
    tiles = []
    for path in sorted((folder / "images").rglob("*.png")):
        told = truth.get(str(path.relative_to(folder)))
        box = mekiki.Box(*told["box"]) if told and told.get("box") else None
        tiles.append((path.parent.name, read(path), box))
    return [(label, pixels) for label, pixels, _ in tiles], tiles


def draw_scene(tiles: list[Tile], seed: int) -> tuple[Pixels, str, list[mekiki.Box]]:
    """A mosaic, the label to look for, and the boxes of that label."""
    dice = random.Random(seed)
    across, down = dice.choice([(2, 2), (3, 2), (3, 3)])
    chosen = [[dice.choice(tiles) for _ in range(across)] for _ in range(down)]
    label = dice.choice(["screw", "nut", "washer"])
    chosen[0][0] = dice.choice([tile for tile in tiles if tile[0] == label])
    pixels = np.vstack([np.hstack([tile[1] for tile in row]) for row in chosen])
    boxes = [
        mekiki.Box(b.x_min + x * TILE_PX, b.y_min + y * TILE_PX, b.x_max + x * TILE_PX, b.y_max + y * TILE_PX)
        for y, row in enumerate(chosen)
        for x, (own, _, b) in enumerate(row)
        if own == label and b is not None
    ]
    return pixels, label, boxes


def add_scenes(figures: Figures, client: mekiki.Client, scenes: list, title: str, **how: object) -> list[list[Note]]:
    """How many boxes are found and right, and whether their number is."""
    hits, drawn, wanted, exact, off, all_found = 0, 0, 0, 0, 0, []
    for pixels, label, boxes in scenes:
        notes = list(client.boxfit.annotate_image("kinds", pixels, label=label, timeout_s=600, **how).annotations)
        left = list(boxes)
        for note in notes:
            near = max(left, key=lambda box: measure_iou(box, note.box), default=None)
            if near is not None and measure_iou(near, note.box) >= 0.5:
                hits += 1
                left.remove(near)
        drawn, wanted = drawn + len(notes), wanted + len(boxes)
        exact, off = exact + (len(notes) == len(boxes)), off + abs(len(notes) - len(boxes))
        all_found.append(notes)
    figures.add(f"scenes, {title}: parts found (IoU .5)", hits / wanted, "")
    figures.add(f"scenes, {title}: boxes that are right (IoU .5)", hits / max(drawn, 1), "")
    figures.add(f"scenes, {title}: scenes with the right count", exact / len(scenes), "")
    figures.add(f"scenes, {title}: count off by, mean", off / len(scenes), "parts", better="lower")
    return all_found


def measure_cifar(figures: Figures, client: mekiki.Client) -> None:
    """The original's demonstration: ten classes of 32 x 32, and where the boxes land."""
    root = find_data("cifar10")
    paths = sorted((root / "train").rglob("*.jpg"))
    classifier = train(client, "cifar10", [(path.parent.name, read(path)) for path in paths])
    figures.add("cifar10: classifier's validation accuracy", classifier.validation_accuracy, "")
    tests = [path for folder in sorted((root / "test").iterdir()) for path in sorted(folder.glob("*.jpg"))[:10]]
    pictures = [read(path) for path in tests]
    said = [answer.value.label for answer in client.saliency.classify_images("cifar10", pictures)]
    right = np.mean([label == path.parent.name for label, path in zip(said, tests, strict=True)])
    figures.add(f"cifar10: accuracy on {len(tests)} test images", float(right), "")
    drawn = []
    for path, pixels in zip(tests, pictures, strict=True):
        notes = client.boxfit.annotate_image("cifar10", pixels, label=path.parent.name).annotations
        drawn.append((pixels, [(note.box, BLUE) for note in notes]))
    draw_sheet(FOLDER / "annotation" / "cifar10.png", drawn)


if __name__ == "__main__":
    main()
