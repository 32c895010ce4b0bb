"""Data sets, what selects their items, and their prepared versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mekiki._values.annotation import time_of
from mekiki._values.image import ItemForm, from_mask
from mekiki._values.word import number_of, word_of
from mekiki.codec.v1 import codec_pb2
from mekiki.types.v1 import types_pb2


class BackgroundRemoval(StrEnum):
    """Which pixels belong to the part."""

    AUTO = "auto"
    """rembg where its model can be had, else contrast."""

    NONE = "none"
    """Nothing is removed, and nothing guides the alignment."""

    CONTRAST = "contrast"
    """Contrast against the border's colour."""

    REMBG = "rembg"
    """A neural network (U^2-Net, by rembg)."""


class AlignmentMethod(StrEnum):
    """How images are brought to the reference."""

    POSE = "pose"
    """Pose from the part's mask, all symmetric candidates tried, refined on the picture."""

    AKAZE = "akaze"
    """AKAZE features and a robust affine map, as in the original tool."""

    NONE = "none"
    """Images stay as they are."""


@dataclass(frozen=True)
class ItemFilter:
    """Items of one data set, selected by conditions that must all hold."""

    dataset: str
    item_ids: Sequence[str] = ()
    """Only these items; empty means all."""

    labels: Sequence[str] = ()
    """Only items that carry at least one of these labels; empty means any."""

    splits: Sequence[str] = ()
    """Only items of one of these splits; empty means any."""

    form: ItemForm = ItemForm.ORIGINAL
    encoding_id: str = ""
    """For prepared pixels: which encoding; empty means the newest."""

    def to_proto(self) -> types_pb2.ItemFilter:
        """For the wire."""
        return types_pb2.ItemFilter(
            dataset=self.dataset,
            item_ids=self.item_ids,
            labels=self.labels,
            splits=self.splits,
            form=self.form.to_proto(),
            encoding_id=self.encoding_id,
        )


ItemsLike = ItemFilter | str | types_pb2.ItemFilter
"""Which items: a filter, or the name of a data set for all of its items, as they were appended."""


def to_item_filter(items: ItemsLike) -> types_pb2.ItemFilter:
    """Which items are meant, for the wire."""
    match items:
        case types_pb2.ItemFilter():
            return items
        case str():
            return types_pb2.ItemFilter(dataset=items)
    return items.to_proto()


@dataclass(frozen=True)
class EncodingOptions:
    """How a prepared version is made. None takes the service's default; an encoding says what was used."""

    background: BackgroundRemoval = BackgroundRemoval.AUTO
    alignment: AlignmentMethod = AlignmentMethod.POSE
    blank_background: bool | None = None
    """Blank everything outside the union of the parts' masks; default true."""

    crf: int | None = None
    """HEVC rate factor, 0 (largest) to 51 (smallest); default 28."""

    gop: int | None = None
    """Frames a group of pictures: what a random read decodes at most, 1 to 250; default 16."""

    reference_item_id: str = ""
    """The item that the others are aligned to; default the first of the reference splits."""

    reference_splits: Sequence[str] = ()
    """Splits whose parts make up the union mask; default "train" where there is such a split, else all."""

    mask_margin: int | None = None
    """Pixels by which the union mask is widened, 0 to 1000; default 1 % of the longer side."""

    @classmethod
    def from_proto(cls, options: codec_pb2.EncodingOptions) -> Self:
        """From the wire."""
        return cls(
            background=BackgroundRemoval(word_of(codec_pb2.BackgroundRemoval, options.background) or "auto"),
            alignment=AlignmentMethod(word_of(codec_pb2.AlignmentMethod, options.alignment) or "pose"),
            blank_background=options.blank_background if options.HasField("blank_background") else None,
            crf=options.crf if options.HasField("crf") else None,
            gop=options.gop if options.HasField("gop") else None,
            reference_item_id=options.reference_item_id,
            reference_splits=tuple(options.reference_splits),
            mask_margin=options.mask_margin if options.HasField("mask_margin") else None,
        )

    def to_proto(self) -> codec_pb2.EncodingOptions:
        """For the wire."""
        return codec_pb2.EncodingOptions(
            background=number_of(codec_pb2.BackgroundRemoval, self.background),
            alignment=number_of(codec_pb2.AlignmentMethod, self.alignment),
            blank_background=self.blank_background,
            crf=self.crf,
            gop=self.gop,
            reference_item_id=self.reference_item_id,
            reference_splits=self.reference_splits,
            mask_margin=self.mask_margin,
        )


DEFAULT_ENCODING = EncodingOptions()


@dataclass(frozen=True, eq=False)
class Encoding:
    """A prepared version of a data set."""

    encoding_id: str
    options: EncodingOptions
    dataset_version: int
    item_count: int
    unaligned: Mapping[str, str]
    """Items that did not align and were kept unaligned, each with the reason."""

    stored_bytes: int
    width: int
    height: int
    mask: NDArray[np.bool_] | None  # (height, width) bool
    """The union mask; None when nothing was blanked."""

    create_time: datetime

    @classmethod
    def from_proto(cls, encoding: codec_pb2.Encoding) -> Self:
        """From the wire."""
        return cls(
            encoding_id=encoding.encoding_id,
            options=EncodingOptions.from_proto(encoding.options),
            dataset_version=encoding.dataset_version,
            item_count=encoding.item_count,
            unaligned=MappingProxyType({item.item_id: item.reason for item in encoding.unaligned_items}),
            stored_bytes=encoding.stored_bytes,
            width=encoding.width,
            height=encoding.height,
            mask=from_mask(encoding.mask) if encoding.HasField("mask") else None,
            create_time=time_of(encoding.create_time),
        )


@dataclass(frozen=True, eq=False)
class EncodedDataset:
    """What EncodeDataset made."""

    encoding: Encoding
    background_description: str
    """What was used to remove the background, as a sentence for people."""

    @classmethod
    def from_proto(cls, response: codec_pb2.EncodeDatasetResponse) -> Self:
        """From the wire."""
        return cls(Encoding.from_proto(response.encoding), response.background_description)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as it is now."""

    name: str
    version: int
    item_count: int
    original_bytes: int
    """Bytes of the images as they were sent (files as files, tensors as raw pixels)."""

    stored_bytes: int
    """Bytes that the exact images take in the store."""

    label_counts: Mapping[str, int]
    split_counts: Mapping[str, int]
    """Items by split; items without one count under ""."""

    encodings: tuple[Encoding, ...]
    """Prepared versions, oldest first."""

    create_time: datetime

    @classmethod
    def from_proto(cls, dataset: codec_pb2.Dataset) -> Self:
        """From the wire."""
        return cls(
            name=dataset.name,
            version=dataset.version,
            item_count=dataset.item_count,
            original_bytes=dataset.original_bytes,
            stored_bytes=dataset.stored_bytes,
            label_counts=MappingProxyType(dict(dataset.label_counts)),
            split_counts=MappingProxyType(dict(dataset.split_counts)),
            encodings=tuple(map(Encoding.from_proto, dataset.encodings)),
            create_time=time_of(dataset.create_time),
        )
