"""From the codec's messages to its values; what is wrong is refused by field, limit and value."""

import re
import secrets
import unicodedata
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mekiki.codec.v1 import codec_pb2
from mekiki.types.v1 import types_pb2
from services.codec.align import Transform
from services.codec.changes import Change
from services.codec.items import Annotation, Item, Pixels
from services.codec.options import (
    USUAL_TRANSFORM,
    AlignmentMethod,
    ChromaChoice,
    Grouping,
    Options,
    ReferenceChoice,
    pack_mask,
)
from services.codec.preview import Wanted
from services.codec.reading import Selection
from services.codec.stills import encode_png
from services.codec.video_encode import LARGEST_CRF, Codec
from services.runtime.errors import InvalidArgument
from services.runtime.images import decode_mask, decode_trimap

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
TEXT_LIMIT = 255
LIST_LIMIT = 10_000
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
PREVIEW_LIMIT = 512
DEFAULT_GOP = 16
DEFAULT_CRF: dict[Codec, int] = {"hevc": 28, "av1": 40}

BACKGROUNDS = {0: "auto", 1: "auto", 2: "none", 3: "contrast", 4: "rembg"}
ALIGNMENTS: dict[int, AlignmentMethod] = {0: "pose", 1: "pose", 2: "akaze", 3: "none"}
TRANSFORMS: dict[int, Transform] = {1: "rigid", 2: "similarity", 3: "affine"}
REFERENCES: dict[int, ReferenceChoice] = {0: "medoid", 1: "medoid", 2: "first"}
GROUPINGS: dict[int, Grouping] = {0: "one", 1: "one", 2: "label", 3: "looks"}
CODECS: dict[int, Codec] = {0: "hevc", 1: "hevc", 2: "av1"}
CHROMAS: dict[int, ChromaChoice] = {0: "auto", 1: "420", 2: "444"}
STATES = {0: "proposed", 1: "proposed", 2: "accepted", 3: "rejected"}
_UPDATABLE = ("labels", "group", "split", "annotations", "mask")


class Page(Protocol):
    """A request for a page."""

    @property
    def page_size(self) -> int:
        """Most entries; 0 means the default."""

    @property
    def page_token(self) -> str:
        """The last name of the page before."""


def read_name(name: str, field: str = "dataset") -> str:
    """Returns a data set's name; raises InvalidArgument where it is none."""
    if not NAME.fullmatch(name):
        pattern = "a letter or digit, then up to 62 letters, digits, '-', '_' or '.'"
        raise InvalidArgument(field, f"must be {pattern}, is {name!r}")
    return name


def read_item_id(item_id: str, field: str) -> str:
    """Returns an item's identifier; raises InvalidArgument where it is none."""
    if not item_id:
        raise InvalidArgument(field, "must have 1 to 255 bytes, is empty")
    return _read_text(item_id, field)


def read_page(request: Page, names: Sequence[str]) -> tuple[Sequence[str], str]:
    """Returns the names of a page of sorted names, and the next page's token."""
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        raise InvalidArgument("page_size", f"must be 1 to {MAX_PAGE_SIZE}, is {request.page_size}")
    left = [name for name in names if name > request.page_token]
    page = left[: request.page_size or PAGE_SIZE]
    return page, page[-1] if len(page) < len(left) else ""


def read_labels(labels: Sequence[str], field: str) -> tuple[str, ...]:
    """Returns an item's labels; raises InvalidArgument for an empty or overlong one."""
    for number, label in enumerate(labels):
        if not label:
            raise InvalidArgument(f"{field}[{number}]", "must have 1 to 255 bytes, is empty")
        _read_text(label, f"{field}[{number}]")
    return tuple(labels)


def read_annotations(
    annotations: Sequence[types_pb2.Annotation], width: int, height: int, field: str
) -> tuple[Annotation, ...]:
    """Returns an item's annotations, each with an identifier.

    Raises:
        InvalidArgument: a box that is empty or leaves the image, a score outside 0 to 1, an identifier used twice.
    """
    if len(annotations) > LIST_LIMIT:
        raise InvalidArgument(field, f"must be at most {LIST_LIMIT}, are {len(annotations)}")
    read = tuple(
        _read_annotation(annotation, width, height, f"{field}[{number}]")
        for number, annotation in enumerate(annotations)
    )
    if len({annotation.annotation_id for annotation in read}) < len(read):
        raise InvalidArgument(field, "every annotation_id must be used once")
    return read


def read_short(text: str, field: str) -> str:
    """Returns a group or split, which may be empty; raises InvalidArgument for an overlong one."""
    return _read_text(text, field)


def read_selection(items: types_pb2.ItemFilter) -> Selection:
    """Returns the conditions of a filter; raises InvalidArgument for a category of original pixels."""
    if items.category and items.form != types_pb2.ITEM_FORM_PREPARED:
        raise InvalidArgument("items.category", f"must be empty for original pixels, is {items.category!r}")
    return Selection(tuple(items.item_ids), tuple(items.labels), tuple(items.splits), items.category)


def read_preview(request: codec_pb2.PreviewEncodingRequest) -> Wanted:
    """Returns what is to be shown; raises InvalidArgument, naming the field."""
    if not 1 <= len(request.item_ids) <= PREVIEW_LIMIT:
        raise InvalidArgument("item_ids", f"must be 1 to {PREVIEW_LIMIT}, are {len(request.item_ids)}")
    if not 0 <= request.crf <= max(LARGEST_CRF.values()):
        raise InvalidArgument("crf", f"must be 0 to {max(LARGEST_CRF.values())}, is {request.crf}")
    return Wanted(read_name(request.dataset), request.encoding_id, tuple(request.item_ids), request.crf)


def read_form(form: int, field: str) -> bool:
    """Returns whether prepared pixels are meant; raises InvalidArgument for an unknown form."""
    if form not in (0, 1, 2):
        raise InvalidArgument(field, f"must be ITEM_FORM_ORIGINAL or ITEM_FORM_PREPARED, is {form}")
    return form == types_pb2.ITEM_FORM_PREPARED


def read_drawn(told: codec_pb2.NewItem | codec_pb2.Item, width: int, height: int, max_pixels: int) -> Pixels | None:
    """Returns the mask or trimap of an item, grey, (height, width); None where there is neither.

    Raises:
        InvalidArgument: both, or one that is none, or has another size.
    """
    if told.HasField("mask") and told.HasField("trimap"):
        raise InvalidArgument("item.trimap", "must be unset where item.mask is set: an item has one of them")
    if told.HasField("mask"):
        field, drawn = "item.mask", decode_mask(told.mask, max_pixels, "item.mask") * np.uint8(255)
    elif told.HasField("trimap"):
        field, drawn = "item.trimap", decode_trimap(told.trimap, max_pixels, "item.trimap")
    else:
        return None
    if drawn.shape != (height, width):
        size = f"{drawn.shape[1]} x {drawn.shape[0]}"
        raise InvalidArgument(field, f"must have the image's size, {width} x {height}, has {size}")
    return drawn


def read_change(request: codec_pb2.UpdateItemRequest, item: Item, max_pixels: int) -> Change:
    """Returns what an update sets; `item` says how large the image is. Decodes pixels: not for the event loop.

    Raises:
        InvalidArgument: no path in the mask, or an unknown one, or a bad value.
    """
    paths = request.update_mask.paths
    if not paths or not set(paths) <= set(_UPDATABLE):
        raise InvalidArgument("update_mask", f"must name some of {', '.join(_UPDATABLE)}, names {list(paths)}")
    new = request.item
    annotations = None
    if "annotations" in paths:
        annotations = read_annotations(new.annotations, item.width, item.height, "item.annotations")
    mask_png = None
    if "mask" in paths:
        drawn = read_drawn(new, item.width, item.height, max_pixels)
        mask_png = b"" if drawn is None else encode_png(drawn)
    return Change(
        item_id=item.item_id,
        etag=new.etag,
        labels=read_labels(new.labels, "item.labels") if "labels" in paths else None,
        group=read_short(new.group, "item.group") if "group" in paths else None,
        split=read_short(new.split, "item.split") if "split" in paths else None,
        annotations=annotations,
        mask_png=mask_png,
    )


def read_options(options: codec_pb2.EncodingOptions, max_pixels: int) -> Options:
    """Returns encoding options, with a margin of -1 where none is given; a mask has at most so many pixels.

    Raises:
        InvalidArgument: names the field, the limits and the value.
    """
    for field, value, known in (
        ("background", options.background, BACKGROUNDS),
        ("alignment", options.alignment, ALIGNMENTS),
        ("transform", options.transform, {0: "", **TRANSFORMS}),
        ("reference", options.reference, REFERENCES),
        ("categories", options.categories, GROUPINGS),
        ("video_codec", options.video_codec, CODECS),
        ("chroma", options.chroma, CHROMAS),
    ):
        if value not in known:
            raise InvalidArgument(f"options.{field}", f"must be a known value, is {value}")
    alignment, codec = ALIGNMENTS[options.alignment], CODECS[options.video_codec]
    if codec == "av1" and CHROMAS[options.chroma] == "444":
        raise InvalidArgument("options.chroma", "must be 4:2:0 or left open with AV1, is 4:4:4")
    return Options(
        background=BACKGROUNDS[options.background],
        alignment=alignment,
        transform=TRANSFORMS.get(options.transform, USUAL_TRANSFORM[alignment]),
        blank_background=options.blank_background if options.HasField("blank_background") else True,
        crf=_read_limited(options, "crf", DEFAULT_CRF[codec], 0, LARGEST_CRF[codec]),
        gop=_read_limited(options, "gop", DEFAULT_GOP, 1, 250),
        reference=REFERENCES[options.reference],
        reference_item_id=options.reference_item_id,
        reference_splits=tuple(options.reference_splits),
        mask_margin=_read_limited(options, "mask_margin", -1, 0, 1000),
        categories=GROUPINGS[options.categories],
        frame_side=_read_limited(options, "frame_side", 0, 64, 16_384),
        codec=codec,
        chroma=CHROMAS[options.chroma],
        mask_png=pack_mask(decode_mask(options.mask, max_pixels, "options.mask")) if options.HasField("mask") else "",
    )


def _read_text(text: str, field: str) -> str:
    size = len(text.encode())
    if size > TEXT_LIMIT:
        raise InvalidArgument(field, f"must have at most {TEXT_LIMIT} bytes, has {size}")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidArgument(field, f"must have no control characters, is {text!r}")
    return text


def _read_limited(options: codec_pb2.EncodingOptions, name: str, default: int, least: int, most: int) -> int:
    if not options.HasField(name):  # type: ignore[arg-type]
        return default
    value: int = getattr(options, name)
    if not least <= value <= most:
        raise InvalidArgument(f"options.{name}", f"must be {least} to {most}, is {value}")
    return value


def _read_annotation(annotation: types_pb2.Annotation, width: int, height: int, field: str) -> Annotation:
    box = annotation.box
    if not (0 <= box.x_min < box.x_max <= width and 0 <= box.y_min < box.y_max <= height):
        value = f"[{box.x_min}, {box.x_max}) x [{box.y_min}, {box.y_max})"
        raise InvalidArgument(f"{field}.box", f"must be a box within {width} x {height} pixels, is {value}")
    if not 0 <= annotation.score <= 1:
        raise InvalidArgument(f"{field}.score", f"must be 0 to 1, is {annotation.score}")
    if annotation.state not in STATES:
        raise InvalidArgument(f"{field}.state", f"must be a known value, is {annotation.state}")
    return Annotation(
        annotation_id=_read_text(annotation.annotation_id, f"{field}.annotation_id") or secrets.token_hex(8),
        x_min=box.x_min,
        y_min=box.y_min,
        x_max=box.x_max,
        y_max=box.y_max,
        label=_read_text(annotation.label, f"{field}.label"),
        score=annotation.score,
        source=_read_text(annotation.source, f"{field}.source"),
        state=STATES[annotation.state],
        needs_review=annotation.needs_review,
    )
