"""The steps of the demonstration, each a few calls of the SDK."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from mekiki import Box as MekikiBox
from mekiki import (
    Calibration,
    Client,
    Detector,
    EncodedDataset,
    EnrolledItem,
    Frame,
    ImageLike,
    Item,
    ItemFilter,
    ItemForm,
    ItemRef,
    NewItem,
    Operation,
    PatchEngine,
    ScoredImage,
    errors,
)
from mekiki.demo.curve import smallest_rate
from mekiki.demo.narrator import Bar
from mekiki.demo.results import Journey, Promise, Serving, Sizes
from mekiki.demo.source import Photo, read_pixels
from mekiki.report.pictures import Box, Pixels, as_8bit

BACKBONE = "mobilenetv2_100"
WITHOUT_WEIGHTS = "small"
CONFIDENCE = 0.95
TIMED_CALLS = 60
ENROL_AT_ONCE = 32
Result = TypeVar("Result")


@dataclass(frozen=True)
class Weights:
    """Which backbone could be used, and what was said when the better one could not."""

    backbone: str
    complaint: str  # the service's sentence about missing weights; empty when none are missing


def push_photos(client: Client, dataset: str, photos: tuple[Photo, ...], bar: Bar) -> list[tuple[str, str]]:
    """Create a data set, append the photos exactly, and return those that failed, with the reason."""
    client.codec.create_dataset(dataset)
    items = (NewItem(photo.item_id, photo.path, labels=(photo.label,), split=photo.split) for photo in photos)
    failures = []
    for answer in client.codec.append_items(dataset, items):
        if answer.error is not None:
            failures.append((answer.id, answer.error.message))
        bar.advance()
    return failures


def encode_dataset(client: Client, dataset: str, bar: Bar) -> EncodedDataset:
    """Make the prepared version of a data set."""
    return bar.watch(client.codec.encode_dataset(dataset))


def measure_sizes(client: Client, dataset: str, encoded: EncodedDataset) -> Sizes:
    """Return how large the data set is in each form."""
    stored, encoding = client.codec.get_dataset(dataset), encoded.encoding
    kind = encoding.categories[0]
    return Sizes(
        image_count=stored.item_count,
        original_bytes=stored.original_bytes,
        lossless_bytes=stored.stored_bytes,
        prepared_bytes=encoding.stored_bytes,
        crf=encoding.options.crf or 0,
        frame_width=kind.width,
        frame_height=kind.height,
        unaligned=tuple(sorted(encoding.unaligned.items())),
    )


def train_with(start: Callable[[str], "Operation[Result]"], weights: Weights, bar: Bar) -> tuple[Result, Weights]:
    """Train with the pretrained backbone, or without where its weights cannot be had; say which it was.

    Raises:
        MekikiError: training failed for another reason.
    """
    try:
        return bar.watch(start(weights.backbone)), weights
    except errors.FailedPrecondition as error:
        if error.reason != "WEIGHTS_MISSING" or weights.backbone == WITHOUT_WEIGHTS:
            raise
        without = Weights(WITHOUT_WEIGHTS, error.message)
    return bar.watch(start(WITHOUT_WEIGHTS)), without


def train_detector(
    client: Client, detector: str, normals: ItemFilter, weights: Weights, bar: Bar
) -> tuple[Detector, Weights]:
    """Train the patch engine on the prepared normals."""

    def start(backbone: str) -> "Operation[Detector]":
        return client.anomaly.train_detector(detector, normals, engine=PatchEngine(), backbone=backbone)

    return train_with(start, weights, bar)


def enrol_normals(client: Client, detector: str, normals: ItemFilter, photos: Iterable[Photo], bar: Bar) -> None:
    """Put the normals into the bank, some at a time."""
    waiting: list[EnrolledItem] = []
    for photo in photos:
        reference = ItemRef(normals.dataset, photo.item_id, ItemForm.PREPARED, normals.encoding_id)
        waiting.append(EnrolledItem(photo.item_id, reference))
        if len(waiting) == ENROL_AT_ONCE:
            client.anomaly.enroll_items(detector, waiting)
            bar.advance(len(waiting))
            waiting = []
    client.anomaly.enroll_items(detector, waiting)
    bar.advance(len(waiting))


def calibrate_detector(client: Client, detector: str, normals: ItemFilter, count: int, bar: Bar) -> Promise:
    """Set the threshold from the normals alone, with the strictest promise that so many allow."""
    rate = smallest_rate(count, CONFIDENCE)
    operation = client.anomaly.calibrate_detector(detector, normals, false_alarm_rate=rate, confidence=CONFIDENCE)
    calibration: Calibration = bar.watch(operation)
    ((category, threshold),) = calibration.thresholds.items()
    scores = tuple(float(score) for score in calibration.scores[category])
    return Promise(threshold.value, threshold.false_alarm_rate, threshold.confidence, scores)


@dataclass(frozen=True, eq=False)
class Streamed:
    """What came of streaming the test images."""

    answers: dict[str, ScoredImage]  # by item
    seconds: float


def stream_photos(client: Client, detector: str, photos: tuple[Photo, ...], bar: Bar) -> Streamed:
    """Send the test images as a stream.

    Raises:
        MekikiError: an image could not be judged.
    """
    files: list[ImageLike | Frame[ImageLike]] = [Frame(photo.path.read_bytes(), photo.item_id) for photo in photos]
    answers = {}
    begun = time.perf_counter()
    for answer in client.anomaly.score_images(detector, files):
        answers[answer.id] = answer.value
        bar.advance()
    return Streamed(answers, time.perf_counter() - begun)


def time_calls(client: Client, detector: str, photos: tuple[Photo, ...], streamed: Streamed, bar: Bar) -> Serving:
    """Ask for some images one by one, and compare each score with the streamed one."""
    latencies, agreed = [], 0
    for photo in photos[:TIMED_CALLS]:
        image = photo.path.read_bytes()
        begun = time.perf_counter()
        answer = client.anomaly.score_image(detector, image)
        latencies.append(1000 * (time.perf_counter() - begun))
        agreed += answer.score == streamed.answers[photo.item_id].score
        bar.advance()
    return Serving(tuple(latencies), len(streamed.answers), streamed.seconds, agreed)


def follow_part(client: Client, normals: ItemFilter, photo: Photo) -> Journey | None:
    """Return a part as it came and as it was prepared; None when it is not in the data set."""
    wanted = ItemFilter(normals.dataset, (photo.item_id,), form=ItemForm.PREPARED, encoding_id=normals.encoding_id)
    for item in client.codec.read_items(wanted):
        return Journey(photo.item_id, read_pixels(photo.path), as_8bit(item.pixels))
    return None


def read_annotated(client: Client, items: ItemFilter) -> Iterator[tuple[Item, Pixels]]:
    """Yield the items that carry a box, with their pixels."""
    for item in client.codec.read_items(items):
        if item.item.annotations:
            yield item.item, as_8bit(item.pixels)


def as_box(box: MekikiBox) -> Box:
    """Return the SDK's box as the report's."""
    return box.x_min, box.y_min, box.x_max, box.y_max
