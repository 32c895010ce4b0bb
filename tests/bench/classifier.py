"""How well classifiers tell labels apart, and whether filters keep their recall on images of another group.

Recipes are `thawed` (the default) and `original` (the baseline), both on MobileNetV2, whose weights MEKIKI_WEIGHTS_DIR
holds. Test images choose nothing: epochs, temperatures and thresholds come from what each training holds out.

- steel and CIFAR-10: accuracy on the test images.
- steel, shifted: each label's images are sorted into groups that look alike (k-means of ImageNet features); one of each
  label's is left out in turn, and what the filter must find is in it.
- CIFAR-10, shifted: one label is wanted, the test set is the other group.

For a quick look COUNT limits the images of a label, EPOCHS the rounds, RECIPES and SETS what is measured; FOLDS groups
are left out in turn.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.runtime.weights import find_weights
from services.saliency.backbones import build_network, hub_repo
from services.saliency.embedding import embed_pictures
from services.saliency.model import Classifier, choose_device
from services.saliency.pictures import prepare
from services.saliency.rates import make_rate
from services.saliency.recipe import RecipeName, Training, TrainingSet, Watch, find_recipe
from services.saliency.temperature import measure_calibration_error
from services.saliency.triage import Verdict, Wish
from tests.bench.detectors import find_data
from tests.bench.figures import Figures

BACKBONE, INPUT_SIZE = "mobilenetv2_100", 224
COUNT = int(os.environ.get("COUNT", "1000000"))
EPOCHS = int(os.environ["EPOCHS"]) if "EPOCHS" in os.environ else None
RECIPES = os.environ.get("RECIPES", "thawed,original").split(",")
SETS = os.environ.get("SETS", "steel,cifar10").split(",")
GROUPS = 5
FOLDS = int(os.environ.get("FOLDS", "5"))  # of the groups, left out in turn
RECALLS = (0.9, 0.98)
CONFIDENCE = 0.95
VALIDATION_OF_FILTERS = 0.4  # of the items: promises take more of them than choosing an epoch does

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photos:
    """Images with their labels."""

    images: tuple[Pixels, ...]
    labels: tuple[str, ...]

    def pick(self, chosen: Sequence[int] | NDArray[np.int64]) -> "Photos":
        """Some of them."""
        return Photos(tuple(self.images[i] for i in chosen), tuple(self.labels[i] for i in chosen))

    def __add__(self, other: "Photos") -> "Photos":
        return Photos(self.images + other.images, self.labels + other.labels)


def main() -> None:
    """Measures, prints and writes build/bench/classifier.json."""
    folder = os.environ.get("MEKIKI_WEIGHTS_DIR")
    weights = find_weights(BACKBONE, hub_repo(BACKBONE), Path(folder) if folder else None).path
    figures = Figures("classifier")
    for name in SETS:
        data = find_data(name)
        if not data.is_dir():
            print(f"skipped: {data} does not exist (set MEKIKI_TEST_DATA)")
            continue
        train, test = (read_photos(data / split) for split in ("train", "test"))
        accuracies = {recipe: measure(figures, name, RecipeName(recipe), train, test, weights) for recipe in RECIPES}
        if len(accuracies) == 2:
            figures.add(f"{name}: accuracy of thawed less that of original", np.subtract(*accuracies.values()), "", 0.0)
        measure_filters(figures, name, train, test, weights)
    figures.finish()


def read_photos(folder: Path) -> Photos:
    """The images of a folder of one folder a label."""
    files = [file for label in sorted(folder.iterdir()) for file in sorted(label.iterdir())[:COUNT]]
    images = tuple(cv2.imread(str(file))[..., ::-1] for file in files)
    return Photos(images, tuple(file.parent.name for file in files))


def fit(
    photos: Photos, name: RecipeName, weights: Path, share: float | None = None, groups: Sequence[str] = ()
) -> Training:
    """Trains as a job does, with defaults but for the backbone."""
    recipe = replace(find_recipe(name), backbone=BACKBONE, epochs=EPOCHS)
    recipe = recipe if share is None else replace(recipe, validation_fraction=share)
    pictures = np.stack([prepare(image, recipe.find_stored_size(INPUT_SIZE)) for image in photos.images])
    aspects = tuple(image.shape[1] / image.shape[0] for image in photos.images)
    groups = tuple(groups) or ("",) * len(photos.labels)
    data = TrainingSet(pictures, photos.labels, groups, aspects=aspects)
    return train_quietly(data, recipe, weights)


def train_quietly(data: TrainingSet, recipe: object, weights: Path) -> Training:
    """Without reports and checkpoints."""
    from services.saliency.train import train_classifier

    return train_classifier(data, recipe, weights=weights, device=choose_device("auto"), watch=Watch())


def open_classifier(training: Training) -> Classifier:
    """As it would serve."""
    return Classifier(training.network, training.labels, choose_device("auto"), training.calibration)


def measure(figures: Figures, dataset: str, name: RecipeName, train: Photos, test: Photos, weights: Path) -> float:
    """Accuracy and calibration on the test images; returns the former."""
    start = time.perf_counter()
    training = fit(train, name, weights)
    what = f"{dataset}, {name}"
    figures.add(
        f"{what}: training on {len(train.labels)} images, {len(training.history)} epochs",
        time.perf_counter() - start,
        "s",
    )
    classifier = open_classifier(training)
    rows = np.stack([sighting.probabilities for sighting in classifier.sight(test.images)]).astype(np.float64)
    classes = np.array([training.labels.index(label) for label in test.labels])
    rate = make_rate(int((rows.argmax(1) == classes).sum()), len(classes))
    figures.add(f"{what}: accuracy on {rate.total} test images", rate.count / rate.total, "")
    figures.add(f"{what}: 95 % interval from", rate.lower, "")
    figures.add(f"{what}: to", rate.upper, "")
    told = training.assessment
    figures.add(
        f"{what}: accuracy on what was held out, by {training.split_by}", told.accuracy.count / told.accuracy.total, ""
    )
    logits = np.log(np.maximum(rows, 1e-12)) * training.calibration.temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    raw = measure_calibration_error(powers / powers.sum(1, keepdims=True), classes)
    figures.add(f"{what}: expected calibration error before calibration", raw, "")
    figures.add(f"{what}: after", measure_calibration_error(rows, classes), "", raw, "lower")
    return rate.count / rate.total


def measure_filters(figures: Figures, dataset: str, train: Photos, test: Photos, weights: Path) -> None:
    """Filters for each label in turn, on images of another group than those that were trained on."""
    kept: dict[float, list[tuple[int, int, int, int, float]]] = {recall: [] for recall in RECALLS}
    for classifier, labels, shifted in make_shifts(dataset, train, test, weights):
        sightings = classifier.sight(shifted.images)
        for label in labels:
            own = [name == label for name in shifted.labels]
            for recall in RECALLS:
                kept[recall].append(count_found(classifier, label, recall, sightings, own))
    for recall, found in kept.items():
        add_filter(figures, f"{dataset}, shifted, recall {recall:g} asked", recall, found)


def make_shifts(
    dataset: str, train: Photos, test: Photos, weights: Path
) -> Iterator[tuple[Classifier, Sequence[str], Photos]]:
    """Classifiers, the labels to want of each, and images of another group."""
    name = RecipeName.THAWED
    if dataset == "steel":
        photos = train + test
        groups = find_groups(photos, weights)
        for left_out in range(FOLDS):
            learnt = np.flatnonzero(groups != left_out)
            names = [f"{photos.labels[index]} {groups[index]}" for index in learnt]
            training = fit(photos.pick(learnt), name, weights, VALIDATION_OF_FILTERS, names)
            yield open_classifier(training), training.labels, photos.pick(np.flatnonzero(groups == left_out))
    else:
        training = fit(train, name, weights, VALIDATION_OF_FILTERS)
        yield open_classifier(training), training.labels, test


def find_groups(photos: Photos, weights: Path) -> NDArray[np.int64]:
    """Within each label GROUPS sets that look alike, numbered from 0; k-means of ImageNet features."""
    device = choose_device("auto")
    network = build_network(BACKBONE, 2, weights=weights)
    network.module.to(device)
    pictures = np.stack([prepare(image, INPUT_SIZE) for image in photos.images])
    features = embed_pictures(network, pictures, device, lambda _: None)
    points = torch.nn.functional.normalize(features, dim=1).cpu().numpy()
    groups = np.zeros(len(points), np.int64)
    for label in set(photos.labels):
        own = np.flatnonzero(np.array(photos.labels) == label)
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
        cv2.setRNGSeed(0)
        _, sets, _ = cv2.kmeans(points[own], GROUPS, None, criteria, 10, cv2.KMEANS_PP_CENTERS)
        groups[own] = sets[:, 0]
    return groups


def count_found(
    classifier: Classifier, label: str, recall: float, sightings: Sequence[object], own: Sequence[bool]
) -> tuple[int, int, int, int, float]:
    """Wanted images called wanted, all wanted ones, all called wanted, wanted ones called unlike; the promise."""
    chosen = classifier.choose_filter(Wish((label,), recall, CONFIDENCE))
    index = classifier.labels.index(label)
    verdicts = [chosen.judge(float(one.probabilities[index]), one.distance) for one in sightings]
    found = sum(verdict is Verdict.WANTED and mine for verdict, mine in zip(verdicts, own, strict=True))
    unlike = sum(verdict is Verdict.UNLIKE and mine for verdict, mine in zip(verdicts, own, strict=True))
    return found, sum(own), sum(verdict is Verdict.WANTED for verdict in verdicts), unlike, chosen.promised_recall


def add_filter(figures: Figures, what: str, recall: float, found: Sequence[tuple[int, int, int, int, float]]) -> None:
    """Adds what came of one recall over all labels: what was asked must not lie above the measured one's interval."""
    hits, total, called, unlike, _ = (sum(column) for column in zip(*found, strict=True))
    promised = min(promise for *_, promise in found)
    rate = make_rate(hits, total)
    figures.add(f"{what}: promised at least, least of the labels", promised, "")
    figures.add(f"{what}: measured on {total} wanted images", hits / total, "")
    figures.add(f"{what}: 95 % interval from", rate.lower, "")
    figures.add(f"{what}: to, which must reach what was asked", rate.upper, "", recall)
    figures.add(f"{what}: to, which must reach what was promised", rate.upper, "", min(recall, promised))
    figures.add(f"{what}: called unlike anything seen instead", unlike / total, "")
    figures.add(f"{what}: precision that it costs", hits / called if called else 0.0, "")


if __name__ == "__main__":
    main()
