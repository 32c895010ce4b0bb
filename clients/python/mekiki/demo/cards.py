"""Which pictures the report shows, each made into a file and a caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from mekiki.demo.figures import box_iou, mask_iou
from mekiki.demo.results import Boxed, Judged, Masked, Results
from mekiki.report.album import Album, Card, Shot
from mekiki.report.pictures import Pixels, draw_box, lay_mask, overlay_heat

Labelled = TypeVar("Labelled", Boxed, Masked)

RED = (213, 94, 0)
# Okabe and Ito's palette: labels differ for everybody's eyes, and are written beside them anyway.
COLOURS = ((86, 180, 233), (240, 228, 66), (0, 158, 115), (204, 121, 167), (230, 159, 0), (0, 114, 178))


@dataclass(frozen=True)
class HeatScale:
    """Heat map values from where colour begins to where it is full: the same for all pictures of a report."""

    low: float
    high: float

    @staticmethod
    def of(results: Results) -> "HeatScale":
        """Let colour begin well below the threshold and be full at the median peak of the defective parts."""
        threshold = results.promise.threshold
        peaks = [float(image.heatmap.max()) for image in results.bad]
        return HeatScale(0.7 * threshold, max([1.25 * threshold, *([float(np.median(peaks))] if peaks else [])]))

    def lay(self, image: Judged) -> Pixels:
        """Return the image with its heat map over it, and the region's box where it was called anomalous."""
        warm = overlay_heat(image.pixels, image.heatmap, self.low, self.high)
        return warm if image.region is None else draw_box(warm, image.region, (255, 255, 255))


def show_judged(images: Sequence[Judged], kind: str, album: Album, scale: HeatScale) -> list[Card]:
    """Return a card per image: as it came, and with the heat map."""
    return [_judged_card(image, f"{kind}-{number}", album, scale) for number, image in enumerate(images, 1)]


def _judged_card(image: Judged, name: str, album: Album, scale: HeatScale) -> Card:
    wrong = image.is_anomalous == image.is_good
    said = "anomalous" if image.is_anomalous else "normal"
    if wrong:
        said = "false alarm" if image.is_good else "missed"
    shots = (
        album.add(name, image.pixels, f"{image.label}, as it came"),
        album.add(f"{name}-heat", scale.lay(image), f"{image.label}, with its heat map"),
    )
    remark = "" if image.aligned else "did not align to the reference"
    return Card(shots, image.label, f"{said} · {image.score:.3g}", remark, wrong, image.item_id)


def show_journey(results: Results, album: Album, scale: HeatScale) -> list[tuple[Shot, str]]:
    """Return one part's way through the services, picture by picture, with a word for each."""
    journey = results.journey
    if journey is None:
        return []
    steps = [(album.add("journey-1", journey.pixels, "as it came"), "as it came")]
    steps.append((album.add("journey-2", journey.prepared, "prepared"), "prepared: aligned, background removed"))
    judged = [image for image in results.judged if image.item_id == journey.item_id]
    words = "judged: where it is unusual"
    return steps + [(album.add("journey-3", scale.lay(image), words), words) for image in judged]


def show_boxes(images: Sequence[Boxed], labels: Sequence[str], album: Album) -> list[Card]:
    """Return a card per image with its box, coloured by label."""
    return [_box_card(image, f"box-{number}", labels, album) for number, image in enumerate(images, 1)]


def show_masks(images: Sequence[Masked], labels: Sequence[str], album: Album) -> list[Card]:
    """Return a card per image with the pixels of its label, coloured by label."""
    return [_mask_card(image, f"mask-{number}", labels, album) for number, image in enumerate(images, 1)]


def _mask_card(image: Masked, name: str, labels: Sequence[str], album: Album) -> Card:
    drawn = lay_mask(image.pixels, image.mask, _choose_colour(image.label, labels))
    shot = album.add(name, drawn, f"{image.label} with its outline", 300)
    overlap = f"score {image.score:.2f}" if image.truth is None else f"IoU {mask_iou(image.mask, image.truth):.2f}"
    remark = "" if image.mask.any() else "not found"
    return Card((shot,), image.label, overlap, remark, is_wrong=False, name=PurePosixPath(image.item_id).name)


def _choose_colour(label: str, labels: Sequence[str]) -> tuple[int, int, int]:
    return COLOURS[labels.index(label) % len(COLOURS)] if label in labels else COLOURS[0]


def _box_card(image: Boxed, name: str, labels: Sequence[str], album: Album) -> Card:
    colour = _choose_colour(image.label, labels)
    shot = album.add(name, draw_box(image.pixels, image.box, colour), f"{image.label} with its box", 300)
    overlap = f"IoU {box_iou(image.box, image.truth):.2f}" if image.truth else f"score {image.score:.2f}"
    remark = "for a person to check" if image.needs_review else ""
    return Card((shot,), image.label, overlap, remark, is_wrong=False, name=PurePosixPath(image.item_id).name)


def choose_fairly(images: Sequence[Labelled], count: int) -> list[Labelled]:
    """Return a fair choice: the labels in turn, and of each label evenly from its best to its worst."""
    by_label: dict[str, list[Labelled]] = {}
    for image in sorted(images, key=lambda image: -image.score):
        by_label.setdefault(image.label, []).append(image)
    each = max(count // max(len(by_label), 1), 1)
    picked = [_spread(group, each) for group in by_label.values()]
    return [image for group in picked for image in group][:count]


def _spread(group: list[Labelled], count: int) -> list[Labelled]:
    steps = np.linspace(0, len(group) - 1, min(count, len(group)))
    return [group[round(float(step))] for step in steps]
