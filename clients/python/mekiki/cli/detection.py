"""The command that finds objects: in image files, or in the items of a data set."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from mekiki import (
    Annotation,
    AnnotationState,
    Box,
    Client,
    DetectedObject,
    Detection,
    Frame,
    ImageLike,
    Item,
    ItemFilter,
    ItemRef,
    errors,
)
from mekiki.cli.codes import ExitCode
from mekiki.cli.datasets import Labels, Splits
from mekiki.cli.files import Places, read_pixels, write_pixels
from mekiki.cli.folder import list_images
from mekiki.cli.frames import Gallery
from mekiki.cli.output import Output
from mekiki.cli.plain import to_plain
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, session

ObjectDetectorName = Annotated[str, typer.Argument(metavar="OBJECT_DETECTOR", help="Name of the object detector.")]

SOURCE = "saliency/"
SAME_IOU = 0.5  # from here on a proposal is the box that a person rejected
ATTEMPTS = 5  # at writing to an item that others change
LABEL_LIMIT = 40  # characters of a label that are drawn
COLOURS = ((230, 60, 60), (40, 160, 60), (50, 100, 230), (220, 150, 20), (160, 70, 200), (20, 160, 170))


def detect(  # noqa: PLR0913 -- a command's options
    object_detector: ObjectDetectorName,
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE]", help="Image files, or folders.")] = None,
    *,
    dataset: Annotated[str, typer.Option(help="Look at the items of this data set instead of at files.")] = "",
    propose: Annotated[bool, typer.Option("--propose", help="Write the boxes to the items as proposals.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the images with the boxes drawn on them.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Least score of an object; default 0.3.")] = None,
    split: Splits = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Find objects in images: what is where?

    With --dataset and --propose the boxes become proposals on the items, for a person to accept; an item with an
    accepted box is left alone, and a box that somebody rejected is not proposed again.
    """
    with session(address, json=json) as (client, output):
        if bool(images) == bool(dataset) or (propose and not dataset) or (out and dataset):
            raise ValueError("name either images (with --out or not) or --dataset (with --propose or not)")
        if images:
            _detect_in_files(client, output, object_detector, images, out, min_score)
        else:
            wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
            _detect_in_items(client, output, object_detector, wanted, min_score, propose=propose)


def _detect_in_files(
    client: Client, output: Output, detector: str, images: Sequence[Path], out: Path | None, min_score: float | None
) -> None:
    gallery: Gallery[Detection] = Gallery(output, list_images(images), _describe)
    answers = client.saliency.detect_objects_in_images(detector, gallery.frames(), min_score=min_score)
    try:
        gallery.show(f"asking {detector}", answers)
    finally:
        if out and gallery.values:
            _draw_all(out, gallery.values, output)


def _describe(found: Detection) -> Sequence[Mapping[str, object]]:
    return [{"objects": len(found.objects), "labels": count_labels(found)}]


def count_labels(found: Detection) -> str:
    """How many of what, such as "3 nut, 1 bolt"."""
    return ", ".join(f"{count} {label}" for label, count in Counter(one.label for one in found.objects).most_common())


def _draw_all(out: Path, found: Mapping[Path, Detection], output: Output) -> None:
    places = Places(out, ".png")
    labels = sorted({one.label for detection in found.values() for one in detection.objects})
    for path, detection in found.items():
        write_pixels(places.place(path.name), draw_objects(read_pixels(path), detection.objects, labels))
    output.say(f"{places.count} images with their boxes in {out}")


def draw_objects(
    pixels: NDArray[Any], objects: Sequence[DetectedObject], labels: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """The image with boxes, labels and scores drawn on it, (h, w, 3) uint8.

    Args:
        pixels: (h, w) or (h, w, 1|3|4), uint8 or uint16.
        objects: what to draw.
        labels: each gets a colour by its place here; default those of `objects`.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415 -- only what writes images waits for Pillow

    eight = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    planes = eight[..., None] if eight.ndim == 2 else eight[..., :3]
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3))))
    pen, order = ImageDraw.Draw(image), list(labels) or sorted({one.label for one in objects})
    line = max(1, round(max(image.size) / 400))
    for one in reversed(objects):  # the surest on top
        colour, box = COLOURS[order.index(one.label) % len(COLOURS)], one.box
        pen.rectangle((box.x_min, box.y_min, box.x_max - 1, box.y_max - 1), outline=colour, width=line)
        # What the built-in font lacks must not stop the drawing.
        text = f"{one.label[:LABEL_LIMIT]} {one.score:.2f}".encode("latin-1", "replace").decode("latin-1")
        pen.text((box.x_min + line + 1, box.y_min + line), text, fill=colour, font_size=max(10.0, 6.0 * line))
    return np.asarray(image)


def _detect_in_items(
    client: Client, output: Output, detector: str, items: ItemFilter, min_score: float | None, *, propose: bool
) -> None:
    described = [read.item for read in client.codec.read_items(items, metadata_only=True)]
    answers = client.saliency.detect_objects_in_images(detector, _refer(items.dataset, described), min_score=min_score)
    rows, written = [], 0
    with output.bar(f"asking {detector}") as bar:
        for number, (item, answer) in enumerate(zip(described, answers, strict=True), 1):
            try:
                found = answer.value
                written += propose and write_proposals(client, items.dataset, item, found)
            except errors.MekikiError as error:
                output.warn(f"{item.item_id}: {error.message}")
                continue
            rows.append([item.item_id, str(len(found.objects)), count_labels(found)])
            output.value({"item": item.item_id} | to_plain(found))
            bar.show(number, len(described))
    output.table(["item", "objects", "labels"], rows)
    if propose:
        output.say(f"proposals written to {written} of {len(rows)} items; the others hold accepted boxes")
    if len(rows) < len(described):
        raise typer.Exit(ExitCode.REFUSED)


def _refer(dataset: str, items: Sequence[Item]) -> Iterator[Frame[ImageLike]]:
    return (Frame(ItemRef(dataset, item.item_id), item.item_id) for item in items)


def write_proposals(client: Client, dataset: str, item: Item, found: Detection) -> bool:
    """Writes what was found to an item as proposals; False where a person has accepted a box of it.

    Raises:
        Conflict: others keep changing it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        if any(mark.state is AnnotationState.ACCEPTED for mark in item.annotations):
            return False
        marks = merge_proposals(item, found.to_annotations())
        try:
            client.codec.update_item(dataset, item.item_id, annotations=marks, etag=item.etag)
        except errors.Conflict:
            if attempt == ATTEMPTS:
                raise
            item = client.codec.get_item(dataset, item.item_id)
        else:
            return True
    return False


def merge_proposals(item: Item, proposals: Sequence[Annotation]) -> list[Annotation]:
    """Proposals in place of earlier ones of object detectors; what a person judged or somebody else made stays."""
    kept = [
        mark
        for mark in item.annotations
        if mark.state is not AnnotationState.PROPOSED or not mark.source.startswith(SOURCE)
    ]
    rejected = [mark for mark in item.annotations if mark.state is AnnotationState.REJECTED]
    return [*kept, *(one for one in proposals if not _is_rejected(one, rejected))]


def _is_rejected(proposal: Annotation, rejected: Sequence[Annotation]) -> bool:
    return any(mark.label == proposal.label and compute_iou(mark.box, proposal.box) >= SAME_IOU for mark in rejected)


def compute_iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(first.x_max, second.x_max) - max(first.x_min, second.x_min)
    height = min(first.y_max, second.y_max) - max(first.y_min, second.y_min)
    shared = max(0, width) * max(0, height)
    return shared / (first.width * first.height + second.width * second.height - shared)
