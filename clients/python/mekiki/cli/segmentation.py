"""The command that segments: which pixels of image files show what, and how large is it?"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from mekiki import Segmentation
from mekiki.cli.files import Places, read_pixels, write_pixels
from mekiki.cli.folder import list_images
from mekiki.cli.frames import Gallery
from mekiki.cli.models import Images
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, session
from mekiki.formats.coco import write_coco
from mekiki.formats.labelme import write_labelme
from mekiki.formats.picture import Mark, Picture
from mekiki.formats.picture import read_pixels as read_eight_bits

SegmenterName = Annotated[str, typer.Argument(metavar="SEGMENTER", help="Name of the segmenter.")]

Found = Iterator[tuple[Path, Segmentation]]


class SegmentFormat(StrEnum):
    """What is written of images and what they show."""

    OVERLAY = "overlay"
    """The images with what they show in colour, for eyes."""

    PNG = "png"
    """An indexed PNG each: 0 is background, n the n-th line of labels.txt."""

    COCO = "coco"
    """Images, and one JSON file with masks as run lengths."""

    LABELME = "labelme"
    """Images, and beside each a JSON file with polygons."""


def segment(  # noqa: PLR0913 -- a command's options
    segmenter: SegmenterName,
    images: Images,
    *,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default none.")] = None,
    form: Annotated[SegmentFormat, typer.Option("--format", help="What to write.")] = SegmentFormat.OVERLAY,
    refine: Annotated[
        bool, typer.Option("--refine", help="Bring outlines to the image's edges; seconds an image.")
    ] = False,
    pixel_size_mm: Annotated[float | None, typer.Option(help="Side of a pixel, for areas in mm2.")] = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Say which pixels of images show what, and how large that is."""
    with session(address, json=json) as (client, output):
        gallery = Gallery(output, list_images(images), describe_segments)
        labels = client.saliency.get_segmenter(segmenter).labels
        answers = client.saliency.segment_images(
            segmenter, gallery.frames(), refine=refine, pixel_size_mm=pixel_size_mm
        )
        found = gallery.walk(f"asking {segmenter}", answers)
        count = _WRITERS[form](out, found, labels) if out else sum(1 for _ in found)
        if out:
            output.say(f"{count} images with what they show in {out}")
        gallery.tell()


def describe_segments(found: Segmentation) -> Sequence[Mapping[str, object]]:
    """A line a segment, or one that says that there is none."""
    rows: list[Mapping[str, object]] = [
        {
            "label": one.label,
            "area_px": one.area_px,
            "area_mm2": "" if one.area_mm2 is None else one.area_mm2,
            "score": one.score,
        }
        for one in found.segments
    ]
    return rows or [{"label": "", "area_px": 0, "area_mm2": "", "score": ""}]


def _write_overlays(out: Path, found: Found, labels: Sequence[str]) -> int:
    places = Places(out, ".png")
    for path, segmentation in found:
        write_pixels(places.place(path.name), paint_classes(read_pixels(path), segmentation.label_map(labels)))
    return places.count


def _write_maps(out: Path, found: Found, labels: Sequence[str]) -> int:
    from PIL import Image  # noqa: PLC0415 -- only what writes images waits for Pillow

    places = Places(out, ".png")
    for path, segmentation in found:
        image = Image.fromarray(segmentation.label_map(labels))
        image.putpalette(list_colours().tobytes())
        image.save(places.place(path.name))
    if places.count:
        (out / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return places.count


def _write_coco(out: Path, found: Found, labels: Sequence[str]) -> int:
    del labels  # its file names them
    return write_coco(out, _to_pictures(found))


def _write_labelme(out: Path, found: Found, labels: Sequence[str]) -> int:
    del labels
    return write_labelme(out, _to_pictures(found), polygons=True)


_WRITERS: Mapping[SegmentFormat, Callable[[Path, Found, Sequence[str]], int]] = {
    SegmentFormat.OVERLAY: _write_overlays,
    SegmentFormat.PNG: _write_maps,
    SegmentFormat.COCO: _write_coco,
    SegmentFormat.LABELME: _write_labelme,
}


def _to_pictures(found: Found) -> Iterable[Picture]:
    for path, segmentation in found:
        notes = zip(segmentation.to_annotations(), segmentation.segments, strict=True)
        marks = tuple(
            Mark(note, one.mask[note.box.y_min : note.box.y_max, note.box.x_min : note.box.x_max])
            for note, one in notes
        )
        labels = tuple(one.label for one in segmentation.segments)
        yield Picture(path.name, read_eight_bits(path), marks, labels)


def list_colours() -> NDArray[np.uint8]:
    """The palette of Pascal VOC, (256, 3): black for the background, and colours as unlike as can be for the first."""
    colours = np.zeros((256, 3), np.uint8)
    numbers = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def paint_classes(pixels: NDArray[Any], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as grey with what it shows in colour over it, outlined, (h, w, 3) uint8.

    Args:
        pixels: the image, (h, w) or (h, w, 1|3|4), uint8 or uint16.
        classes: what each pixel shows, (h, w); 0 is background.
    """
    eight = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    grey = eight if eight.ndim == 2 else eight[..., :3].mean(axis=2).astype(np.uint8)
    painted = np.repeat(grey[..., None], 3, axis=2)
    colours = list_colours()[classes]
    inside = classes > 0
    painted[inside] = painted[inside] // 2 + colours[inside] // 2
    outline = inside & (_shrink(classes) != classes)
    painted[outline] = np.minimum(2 * colours[outline].astype(np.uint16), 255)
    return painted


def _shrink(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0 where a neighbour above, below or beside is of another class; what lies beyond the rim is of the same."""
    padded = np.pad(classes, 1, mode="edge")
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    alike = np.all([classes == neighbour for neighbour in neighbours], axis=0)
    return np.where(alike, classes, 0).astype(np.uint8)
