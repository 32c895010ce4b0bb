"""Masks from labels alone, against pixel truth: the ladder from a thresholded map over SEC to what came after it.

Magnetic tiles: labels of train/good and train_defects teach, test is judged, at the images' own size; the truth of the
test images chooses nothing. IoU counts the pixels of all test images together, as PASCAL VOC does; the mean is over the
five defects and the background. Boundary F is that of Csurka et al. (BMVC 2013), 2 % of the diagonal away at most.

RUNGS, SIDE (pixels of the network's square), EPOCHS and COUNT (pictures of a kind) make a run shorter.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.saliency.model import Classifier, Question
from services.saliency.recipe import Recipe as ClassifierRecipe
from services.saliency.recipe import TrainingSet
from services.saliency.recipe import Watch as ClassifierWatch
from services.saliency.segmentation.cues import OBJECT_SHARE
from services.saliency.segmentation.labelled import BACKGROUND, LabelledSet, fit_mask
from services.saliency.segmentation.recipe import Engine, Recipe, Watch
from services.saliency.segmentation.train import train_segmenter
from services.saliency.train import train_classifier
from tests.bench.detectors import find_data
from tests.bench.figures import FOLDER, Figures
from tests.bench.judging import find_backbone, make_detector

SIDE = int(os.environ.get("SIDE", "320"))
EPOCHS = int(os.environ.get("EPOCHS", "12"))
COUNT = int(os.environ.get("COUNT", "1000000"))
ALL = "maps,no seeding,no expansion,no constraint,sec,refined,ceiling,patch"
RUNGS = os.environ.get("RUNGS", ALL).split(",")
BOUNDARY = 0.02  # of the diagonal
GAIN = 1.3  # of the mean IoU: what came after SEC must be so much better
LEFT_OUT = {"no seeding": "seeding", "no expansion": "expansion", "no constraint": "constraint"}
COLOURS = np.array([(0, 0, 0), (255, 80, 0), (0, 200, 0), (0, 0, 255), (0, 200, 255), (255, 0, 200)], np.uint8)
HEAT_SIDE = 80  # cells of the anomaly heat map
SHOWN = 4  # test images of a kind on the sheet

Pixels = NDArray[np.uint8]
Answer = Callable[[Pixels], Pixels]
"""Classes (h, w) of an image (h, w, 3)."""


@dataclass(frozen=True, eq=False)
class Tile:
    """An image, its defect ("" for none) and which pixels it is."""

    pixels: Pixels
    label: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Quality:
    """IoU by class, the background first; that of all defects as one; and the mean boundary F over the defects."""

    ious: tuple[float, ...]
    any_defect: float
    boundary: float

    @property
    def mean(self) -> float:
        """Mean IoU."""
        return float(np.mean(self.ious))


def main() -> None:
    """Measures, prints and writes build/bench/segmentation.json and a sheet of pictures."""
    root, weights = find_data("tile"), find_backbone()
    if not root.is_dir() or weights is None:
        print(f"skipped: {root} does not exist, or no weights (set MEKIKI_TEST_DATA, MEKIKI_WEIGHTS_DIR)")
        return
    torch.set_flush_denormal(True)
    figures = Figures("segmentation")
    training, tests = list(read_tiles(root, "train")), list(read_tiles(root, "test"))
    labels = tuple(sorted({tile.label for tile in training} - {""}))
    means: dict[str, float] = {}
    sheet: list[list[Pixels]] = []
    for rung in RUNGS:
        if rung == "patch":
            figures.add("patch, its best threshold: IoU, any defect", measure_heat(training, tests, weights), "")
            continue
        for name, answer in make_answers(rung, training, labels, weights):
            found = [answer(tile.pixels) for tile in tests]
            quality = judge(tests, found, labels)
            means[name] = quality.mean
            add(figures, name, quality, labels)
            sheet.append([paint(tile.pixels, classes) for tile, classes in choose_shown(tests, found)])
    if {"sec", "refined"} <= set(means):
        figures.add("refined / sec: mean IoU", means["refined"] / means["sec"], "x", GAIN)
    if {"sec", "maps"} <= set(means):
        figures.add("sec / class activation maps alone: mean IoU", means["sec"] / means["maps"], "x", 1.0)
    truth = [mark(tile, labels) for tile in tests]
    draw_sheet("tiles", [[paint(tile.pixels, classes) for tile, classes in choose_shown(tests, truth)], *sheet])
    figures.finish()


def read_tiles(root: Path, split: str) -> Iterator[Tile]:
    """Of "train" normals and defects, of "test" both."""
    folders = {"train": ["train/good", *_list_kinds(root, "train_defects")], "test": _list_kinds(root, "test")}
    for folder in folders[split]:
        label = "" if folder.endswith("good") else Path(folder).name
        for path in sorted((root / folder).iterdir())[:COUNT]:
            pixels = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
            mask = np.zeros(pixels.shape[:2], bool)
            if label:
                mask = cv2.imread(str(root / "masks" / label / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE) > 127
            yield Tile(pixels, label, mask)


def _list_kinds(root: Path, folder: str) -> list[str]:
    return [f"{folder}/{path.name}" for path in sorted((root / folder).iterdir())]


def gather(tiles: list[Tile], labels: tuple[str, ...], *, drawn: bool) -> LabelledSet:
    """What the trainings are given: labels, and for the ceiling the masks."""
    pictures = np.stack([cv2.resize(tile.pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for tile in tiles])
    mains = np.array([labels.index(tile.label) if tile.label else -1 for tile in tiles], np.int64)
    present = mains[:, None] == np.arange(len(labels))
    masks = {}
    if drawn:
        masks = {
            number: fit_mask(tile.mask, SIDE, int(main), alone=True)
            for number, (tile, main) in enumerate(zip(tiles, mains, strict=True))
            if main >= 0
        }
    return LabelledSet(pictures, labels, present, mains, ("",) * len(tiles), masks)


def make_answers(
    rung: str, training: list[Tile], labels: tuple[str, ...], weights: Path
) -> Iterator[tuple[str, Answer]]:
    """What a rung answers; of segmenters also with the dense CRF, for the two whole ones."""
    started = time.perf_counter()
    if rung == "maps":
        yield rung, _threshold_maps(training, labels, weights)
    else:
        changed = {LEFT_OUT[rung]: False} if rung in LEFT_OUT else {}
        engine = Engine.REFINED if rung in ("refined", "ceiling") else Engine.SEC
        recipe = Recipe(epochs=EPOCHS, engine=engine, **changed)
        data = gather(training, labels, drawn=rung == "ceiling")
        watch = Watch(lambda *_, **__: None, lambda _: None, None)
        made = train_segmenter(data, recipe, weights=weights, device=torch.device("cpu"), watch=watch)
        print(f"{rung}: trained in {time.perf_counter() - started:.0f} s", flush=True)
        yield rung, lambda pixels: made.segment(pixels).classes
        if rung in ("sec", "refined"):
            yield f"{rung} + CRF", lambda pixels: made.segment(pixels, refine=True).classes


def _threshold_maps(training: list[Tile], labels: tuple[str, ...], weights: Path) -> Answer:
    """The class activation map of what the classifier says, from SEC's share of its maximum on."""
    data = gather(training, labels, drawn=False)
    told = TrainingSet(data.pictures, tuple(tile.label for tile in training), data.groups)
    made = train_classifier(
        told, ClassifierRecipe(), weights=weights, device=torch.device("cpu"), watch=ClassifierWatch()
    )
    classifier = Classifier(made.network, made.labels, torch.device("cpu"))

    def answer(pixels: Pixels) -> Pixels:
        probabilities = classifier.classify([pixels])[0].probabilities
        label = classifier.labels[int(np.argmax(probabilities))]
        if not label:
            return np.zeros(pixels.shape[:2], np.uint8)
        heat = classifier.explain([pixels], Question(label))[0].heatmap
        heat = cv2.resize(heat, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return (heat >= OBJECT_SHARE * heat.max()).astype(np.uint8) * (labels.index(label) + 1)

    return answer


def measure_heat(training: list[Tile], tests: list[Tile], weights: Path) -> float:
    """IoU of the anomaly service's heat map of `patch` at the threshold that is best on these very test images.

    It learns from normals alone and says where, not what: all defects are one.
    """
    detector = make_detector("patch", SIDE, None, [tile.pixels for tile in training if not tile.label], weights)
    heats = [detector.score_image(tile.pixels, heatmap_side=HEAT_SIDE).heatmap for tile in tests]
    maps = [
        cv2.resize(np.asarray(heat), tile.mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        for heat, tile in zip(heats, tests, strict=True)
    ]
    thresholds = np.quantile(np.concatenate([each[::4, ::4].ravel() for each in maps]), np.linspace(0.8, 0.999, 40))
    best = 0.0
    for threshold in thresholds:
        pairs = [(each > threshold, tile.mask) for each, tile in zip(maps, tests, strict=True)]
        shared = sum(int((found & wanted).sum()) for found, wanted in pairs)
        best = max(best, shared / sum(int((found | wanted).sum()) for found, wanted in pairs))
    return best


def judge(tests: list[Tile], found: list[Pixels], labels: tuple[str, ...]) -> Quality:
    """How good answers are."""
    count = len(labels) + 1
    confusion, boundaries = np.zeros((count, count)), []
    for tile, classes in zip(tests, found, strict=True):
        truth = mark(tile, labels)
        confusion += np.bincount(truth.ravel() * count + classes.ravel(), minlength=count * count).reshape(count, count)
        if tile.label:
            boundaries.append(measure_boundary(classes == labels.index(tile.label) + 1, tile.mask))
    shared = np.diag(confusion)
    ious = shared / np.maximum(confusion.sum(0) + confusion.sum(1) - shared, 1)
    any_defect = confusion[1:, 1:].sum() / max(1, confusion.sum() - confusion[0, 0])
    return Quality(tuple(ious.tolist()), float(any_defect), float(np.mean(boundaries)))


def mark(tile: Tile, labels: tuple[str, ...]) -> Pixels:
    """The truth as classes."""
    return tile.mask.astype(np.uint8) * (labels.index(tile.label) + 1 if tile.label else BACKGROUND)


def measure_boundary(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """F of outlines: shares of either that lie near the other; 0 where nothing was found."""
    reach = max(1, round(BOUNDARY * float(np.hypot(*wanted.shape))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    edges = [
        each & ~cv2.erode(each.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) for each in (found, wanted)
    ]
    near = [cv2.dilate(edge.astype(np.uint8), kernel).astype(bool) for edge in edges]
    precision = (edges[0] & near[1]).sum() / max(1, edges[0].sum())
    recall = (edges[1] & near[0]).sum() / max(1, edges[1].sum())
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def add(figures: Figures, name: str, quality: Quality, labels: tuple[str, ...]) -> None:
    """A rung's figures, told at once, too: the next rung takes minutes."""
    print(f"{name}: mean IoU {quality.mean:.3f}", flush=True)
    figures.add(f"{name}: mean IoU", quality.mean, "")
    for label, iou in zip(("background", *labels), quality.ious, strict=True):
        figures.add(f"{name}, {label}: IoU", iou, "")
    figures.add(f"{name}: IoU, any defect", quality.any_defect, "")
    figures.add(f"{name}: boundary F", quality.boundary, "")


def choose_shown(tests: list[Tile], found: list[Pixels]) -> list[tuple[Tile, Pixels]]:
    """The first few of each kind, with what was found."""
    seen: dict[str, int] = {}
    chosen = []
    for tile, classes in zip(tests, found, strict=True):
        seen[tile.label] = seen.get(tile.label, 0) + 1
        if tile.label and seen[tile.label] <= SHOWN:
            chosen.append((tile, classes))
    return chosen


def paint(pixels: Pixels, classes: Pixels) -> Pixels:
    """Classes in colours over an image, 96 pixels square."""
    small = cv2.resize(pixels, (96, 96), interpolation=cv2.INTER_AREA)
    shown = COLOURS[cv2.resize(classes, (96, 96), interpolation=cv2.INTER_NEAREST)]
    return np.where(shown.any(-1, keepdims=True), (small * 0.4 + shown * 0.6).astype(np.uint8), small)


def draw_sheet(name: str, rows: list[list[Pixels]]) -> None:
    """Writes a row for the truth and one for each that was judged, build/bench/segmentation/NAME.png."""
    path = FOLDER / "segmentation" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack([np.hstack(row) for row in rows])[..., ::-1])


if __name__ == "__main__":
    main()
