"""Boxes without drawing: a classifier from labels alone, the best box around what it looks at, files for a trainer."""

from dataclasses import dataclass
from pathlib import Path

from mekiki import Annotation, Classifier, Client, Item, ItemFilter, Operation
from mekiki import Box as PixelBox
from mekiki.demo.narrator import Narrator
from mekiki.demo.results import GOOD, Boxed, Boxes
from mekiki.demo.source import Labelled, Photo
from mekiki.demo.steps import Weights, as_box, read_annotated, train_with
from mekiki.formats import DatasetFormat, Mark, Picture, write_dataset
from mekiki.report.pictures import Box, Pixels
from mekiki.sample_parts import EMPTY

LEAST_IMAGES = 8  # of a label, half of which teach
FOLDER = "voc"


@dataclass(frozen=True)
class Task:
    """What teaches the classifier, and what gets boxes."""

    taught: ItemFilter
    boxed: ItemFilter
    skip_labels: tuple[str, ...]
    truth: dict[str, Box]
    note: str


def plan_labelled(dataset: str, labelled: Labelled) -> Task:
    """Return the task on sample parts: all pictures teach and get boxes, bare tables none."""
    note = (
        f"{len(labelled.photos)} pictures of screws, nuts, washers and bare tables carried nothing but that word as "
        "their label, and got their boxes from it."
    )
    everything = ItemFilter(dataset)
    return Task(everything, everything, (EMPTY,), labelled.boxes, note)


def plan_test_images(dataset: str, test: tuple[Photo, ...]) -> tuple[Task | None, str]:
    """Return the task on a user's test images, every other one of which teaches; or None and the reason."""
    by_label: dict[str, list[str]] = {}
    for photo in test:
        by_label.setdefault(photo.label, []).append(photo.item_id)
    large = {label: ids for label, ids in by_label.items() if len(ids) >= LEAST_IMAGES}
    if len(large) < 2 or set(large) <= {GOOD}:
        return None, (
            f"a classifier needs two labels with at least {LEAST_IMAGES} test images each; this folder has "
            f"{', '.join(f'{label} ({len(ids)})' for label, ids in by_label.items())}."
        )
    taught = tuple(item for ids in large.values() for item in ids[::2])
    boxed = tuple(item for label, ids in large.items() if label != GOOD for item in ids[1::2])
    note = (
        f"Every other test image taught the classifier nothing but its label ({', '.join(sorted(large))}); the boxes "
        f"are on the {len(boxed)} defective parts that it had not seen."
    )
    return Task(ItemFilter(dataset, taught), ItemFilter(dataset, boxed), (GOOD,), {}, note), ""


def draw_boxes(
    client: Client, classifier: str, task: Task, weights: Weights, narrator: Narrator, out: Path
) -> tuple[Boxes, Classifier]:
    """Train the classifier, draw the boxes, export them to `out`/voc, and return what came of it."""

    def start(backbone: str) -> "Operation[Classifier]":
        return client.saliency.train_classifier(classifier, task.taught, backbone=backbone)

    with narrator.step("Train the classifier") as bar:
        trained, _ = train_with(start, weights, bar)
    with narrator.step("Draw the boxes") as bar:
        operation = client.boxfit.annotate_dataset(
            classifier, task.boxed, use_item_labels=True, skip_labels=task.skip_labels
        )
        bar.watch(operation)
    with narrator.step("Export boxes") as bar:
        images = read_annotated(client, task.boxed)
        boxed = [_as_boxed(item, pixels, task.truth) for item, pixels in images]
        write_dataset(DatasetFormat.VOC, out / FOLDER, map(_as_picture, boxed))
        bar.show(1, 1)
    return _summarise(trained, tuple(boxed), task.note), trained


def _as_picture(image: Boxed) -> Picture:
    return Picture(image.item_id, image.pixels, (Mark(Annotation(PixelBox(*image.box), image.label)),))


def _as_boxed(item: Item, pixels: Pixels, truth: dict[str, Box]) -> Boxed:
    best = max(item.annotations, key=lambda annotation: annotation.score)
    return Boxed(
        item_id=item.item_id,
        label=best.label,
        box=as_box(best.box),
        score=best.score,
        needs_review=best.needs_review,
        pixels=pixels,
        truth=truth.get(item.item_id),
    )


def _summarise(trained: Classifier, images: tuple[Boxed, ...], note: str) -> Boxes:
    return Boxes(
        labels=trained.labels,
        train_count=trained.train_count,
        validation_count=trained.validation_count,
        validation_accuracy=trained.validation_accuracy,
        split_by=trained.split_by,
        best_epoch=trained.best_epoch,
        images=images,
        note=note,
        exported_to=FOLDER,
    )
