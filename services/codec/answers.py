"""From the codec's values to its messages."""

import base64
from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from mekiki.codec.v1 import codec_pb2
from mekiki.types.v1 import types_pb2
from services.codec.align import Alignment
from services.codec.catalog import Snapshot
from services.codec.compact import Compaction
from services.codec.geometry import Affine, Mask
from services.codec.items import Annotation, Item
from services.codec.messages import (
    ALIGNMENTS,
    BACKGROUNDS,
    CHROMAS,
    CODECS,
    GROUPINGS,
    REFERENCES,
    STATES,
    TRANSFORMS,
)
from services.codec.options import Options
from services.codec.records import Kind, Record
from services.codec.scrub import Findings
from services.runtime.images import encode_mask

_BACKGROUND_NUMBERS = {name: number for number, name in BACKGROUNDS.items()}
_ALIGNMENT_NUMBERS = {name: number for number, name in ALIGNMENTS.items()}
_TRANSFORM_NUMBERS = {name: number for number, name in TRANSFORMS.items()}
_REFERENCE_NUMBERS = {name: number for number, name in REFERENCES.items()}
_GROUPING_NUMBERS = {name: number for number, name in GROUPINGS.items()}
_CODEC_NUMBERS = {name: number for number, name in CODECS.items()}
_CHROMA_NUMBERS = {name: number for number, name in CHROMAS.items()}
_STATE_NUMBERS = {name: number for number, name in STATES.items()}


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
        has_mask=item.mask is not None and not item.mask_is_partial,
        has_trimap=item.mask is not None and item.mask_is_partial,
    )


def write_alignment(alignment: Alignment, category: str) -> codec_pb2.Alignment:
    """Returns the message of an alignment to a category's reference."""
    return codec_pb2.Alignment(
        affine=_write_affine(alignment.affine),
        aligned=alignment.aligned,
        score=alignment.score,
        reason=alignment.reason,
        category=category,
    )


def write_encoding(record: Record, masks: Sequence[Mask | None]) -> codec_pb2.Encoding:
    """Returns the message of an encoding with its categories' masks."""
    categories = [_write_category(kind, mask) for kind, mask in zip(record.categories, masks, strict=True)]
    only = categories[0] if len(categories) == 1 else codec_pb2.EncodedCategory()
    return codec_pb2.Encoding(
        encoding_id=record.encoding_id,
        options=_write_options(record.options),
        dataset_version=record.dataset_version,
        item_count=record.item_count,
        unaligned_items=[
            codec_pb2.UnalignedItem(item_id=item.item_id, reason=item.reason) for item in record.unaligned
        ],
        stored_bytes=record.stored_bytes,
        width=only.width,
        height=only.height,
        mask=only.mask if only.HasField("mask") else None,
        create_time=_write_time(record.create_time_s),
        categories=categories,
        chroma_loss=record.chroma_loss,
    )


def write_findings(findings: Findings) -> codec_pb2.VerifyDatasetResponse:
    """Returns the message of what a scrub found."""
    return codec_pb2.VerifyDatasetResponse(
        dataset_version=findings.version,
        item_count=findings.item_count,
        damages=[
            codec_pb2.Damage(item_id=damage.item_id, encoding_id=damage.encoding_id, reason=damage.reason)
            for damage in findings.damages
        ],
        mended_count=findings.mended_count,
    )


def write_compaction(compaction: Compaction) -> codec_pb2.CompactDatasetResponse:
    """Returns the message of what a compaction came to."""
    return codec_pb2.CompactDatasetResponse(
        dataset_version=compaction.version,
        moved_count=compaction.moved_count,
        bytes_before=compaction.bytes_before,
        bytes_after=compaction.bytes_after,
        unreadable_item_ids=compaction.unreadable,
    )


def _write_category(kind: Kind, mask: Mask | None) -> codec_pb2.EncodedCategory:
    return codec_pb2.EncodedCategory(
        category=kind.category.name,
        item_count=kind.item_count,
        reference_item_id=kind.category.reference_item_id,
        width=kind.width,
        height=kind.height,
        mask=None if mask is None else encode_mask(mask),
        reason=kind.category.reason,
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
        mask_margin=options.mask_margin if options.mask_margin >= 0 else None,
        frame_side=options.frame_side or None,
        mask=types_pb2.Mask(png=base64.b64decode(options.mask_png)) if options.mask_png else None,
        reference=codec_pb2.ReferenceChoice.Name(_REFERENCE_NUMBERS[options.reference]),  # type: ignore[arg-type]
        transform=codec_pb2.Transform.Name(_TRANSFORM_NUMBERS[options.transform]),  # type: ignore[arg-type]
        video_codec=codec_pb2.VideoCodec.Name(_CODEC_NUMBERS[options.codec]),  # type: ignore[arg-type]
        chroma=codec_pb2.ChromaSampling.Name(_CHROMA_NUMBERS[options.chroma]),  # type: ignore[arg-type]
        categories=codec_pb2.CategoryGrouping.Name(_GROUPING_NUMBERS[options.categories]),  # type: ignore[arg-type]
    )


def _write_affine(affine: Affine) -> types_pb2.Affine:
    (xx, xy, tx), (yx, yy, ty) = affine.tolist()
    return types_pb2.Affine(xx=xx, xy=xy, tx=tx, yx=yx, yy=yy, ty=ty)


def _write_time(seconds: float) -> Timestamp:
    time = Timestamp()
    time.FromNanoseconds(int(seconds * 1e9))
    return time
