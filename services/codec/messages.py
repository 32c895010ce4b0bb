"""Between the codec's messages and its values."""

import re
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from mekiki.codec.v1 import codec_pb2
from mekiki.types.v1 import types_pb2
from services.codec.align import Alignment
from services.codec.catalog import Snapshot
from services.codec.dataset import Change
from services.codec.encoding import Options, Record
from services.codec.geometry import Affine, Mask
from services.codec.items import Annotation, Item
from services.codec.prepare import AlignmentMethod
from services.codec.reading import Selection
from services.runtime.errors import InvalidArgument
from services.runtime.images import encode_mask

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
TEXT_LIMIT = 255
LIST_LIMIT = 10_000
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
DEFAULT_CRF, DEFAULT_GOP = 28, 16

_BACKGROUNDS = {0: "auto", 1: "auto", 2: "none", 3: "contrast", 4: "rembg"}
_ALIGNMENTS: dict[int, AlignmentMethod] = {0: "pose", 1: "pose", 2: "akaze", 3: "none"}
_STATES = {0: "proposed", 1: "proposed", 2: "accepted", 3: "rejected"}
_BACKGROUND_NUMBERS = {name: number for number, name in _BACKGROUNDS.items()}
_ALIGNMENT_NUMBERS = {name: number for number, name in _ALIGNMENTS.items()}
_STATE_NUMBERS = {name: number for number, name in _STATES.items()}
_UPDATABLE = ("labels", "group", "split", "annotations")


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
    """Returns the conditions of a filter."""
    return Selection(tuple(items.item_ids), tuple(items.labels), tuple(items.splits))


def read_form(form: int, field: str) -> bool:
    """Returns whether prepared pixels are meant; raises InvalidArgument for an unknown form."""
    if form not in (0, 1, 2):
        raise InvalidArgument(field, f"must be ITEM_FORM_ORIGINAL or ITEM_FORM_PREPARED, is {form}")
    return form == types_pb2.ITEM_FORM_PREPARED


def read_change(request: codec_pb2.UpdateItemRequest, item: Item) -> Change:
    """Returns what an update sets; `item` says how large the image is.

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
    return Change(
        item_id=item.item_id,
        etag=new.etag,
        labels=read_labels(new.labels, "item.labels") if "labels" in paths else None,
        group=read_short(new.group, "item.group") if "group" in paths else None,
        split=read_short(new.split, "item.split") if "split" in paths else None,
        annotations=annotations,
    )


def read_options(options: codec_pb2.EncodingOptions) -> Options:
    """Returns encoding options, with a margin of -1 where none is given.

    Raises:
        InvalidArgument: names the field, the limits and the value.
    """
    for field, value, known in (
        ("background", options.background, _BACKGROUNDS),
        ("alignment", options.alignment, _ALIGNMENTS),
    ):
        if value not in known:
            raise InvalidArgument(f"options.{field}", f"must be a known value, is {value}")
    background, alignment = _BACKGROUNDS[options.background], _ALIGNMENTS[options.alignment]
    if alignment == "pose" and background == "none":
        raise InvalidArgument("options.alignment", "must be AKAZE or NONE where background is NONE, is POSE")
    return Options(
        background=background,
        alignment=alignment,
        blank_background=options.blank_background if options.HasField("blank_background") else True,
        crf=_read_limited(options, "crf", DEFAULT_CRF, 0, 51),
        gop=_read_limited(options, "gop", DEFAULT_GOP, 1, 250),
        reference_item_id=options.reference_item_id,
        reference_splits=tuple(options.reference_splits),
        mask_margin=_read_limited(options, "mask_margin", -1, 0, 1000),
    )


def write_dataset(snapshot: Snapshot, encodings: Iterable[codec_pb2.Encoding]) -> codec_pb2.Dataset:
    """Returns the message of a data set."""
    body = snapshot.body
    return codec_pb2.Dataset(
        name=snapshot.name,
        version=snapshot.number,
        item_count=body["item_count"],
        original_bytes=body["original_bytes"],
        stored_bytes=body["stored_bytes"],
        label_counts=body["label_counts"],
        split_counts=body["split_counts"],
        encodings=encodings,
        create_time=_write_time(body["create_time_s"]),
    )


def write_item(item: Item) -> codec_pb2.Item:
    """Returns the message of an item."""
    return codec_pb2.Item(
        item_id=item.item_id,
        labels=item.labels,
        group=item.group,
        split=item.split,
        sha256=item.sha256,
        width=item.width,
        height=item.height,
        channels=item.channels,
        bit_depth=item.bit_depth,
        annotations=[_write_annotation(annotation) for annotation in item.annotations],
        etag=item.etag,
        create_time=_write_time(item.create_time_s),
    )


def write_alignment(alignment: Alignment) -> codec_pb2.Alignment:
    """Returns the message of an alignment."""
    return codec_pb2.Alignment(
        affine=_write_affine(alignment.affine),
        aligned=alignment.aligned,
        score=alignment.score,
        reason=alignment.reason,
    )


def write_encoding(record: Record, mask: Mask | None) -> codec_pb2.Encoding:
    """Returns the message of an encoding."""
    return codec_pb2.Encoding(
        encoding_id=record.encoding_id,
        options=_write_options(record.options),
        dataset_version=record.dataset_version,
        item_count=record.item_count,
        unaligned_items=[
            codec_pb2.UnalignedItem(item_id=item.item_id, reason=item.reason) for item in record.unaligned
        ],
        stored_bytes=record.stored_bytes,
        width=record.width,
        height=record.height,
        mask=None if mask is None else encode_mask(mask),
        create_time=_write_time(record.create_time_s),
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
    if annotation.state not in _STATES:
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
        state=_STATES[annotation.state],
        needs_review=annotation.needs_review,
    )


def _write_annotation(annotation: Annotation) -> types_pb2.Annotation:
    box = types_pb2.Box(x_min=annotation.x_min, y_min=annotation.y_min, x_max=annotation.x_max, y_max=annotation.y_max)
    return types_pb2.Annotation(
        annotation_id=annotation.annotation_id,
        box=box,
        label=annotation.label,
        score=annotation.score,
        source=annotation.source,
        state=types_pb2.AnnotationState.Name(_STATE_NUMBERS[annotation.state]),  # type: ignore[arg-type]
        needs_review=annotation.needs_review,
    )


def _write_options(options: Options) -> codec_pb2.EncodingOptions:
    return codec_pb2.EncodingOptions(
        background=codec_pb2.BackgroundRemoval.Name(_BACKGROUND_NUMBERS[options.background]),  # type: ignore[arg-type]
        alignment=codec_pb2.AlignmentMethod.Name(_ALIGNMENT_NUMBERS[options.alignment]),  # type: ignore[arg-type]
        blank_background=options.blank_background,
        crf=options.crf,
        gop=options.gop,
        reference_item_id=options.reference_item_id,
        reference_splits=options.reference_splits,
        mask_margin=options.mask_margin,
    )


def _write_affine(affine: Affine) -> types_pb2.Affine:
    (xx, xy, tx), (yx, yy, ty) = affine.tolist()
    return types_pb2.Affine(xx=xx, xy=xy, tx=tx, yx=yx, yy=yy, ty=ty)


def _write_time(seconds: float) -> Timestamp:
    time = Timestamp()
    time.FromNanoseconds(int(seconds * 1e9))
    return time
