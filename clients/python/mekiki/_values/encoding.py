"""Prepared versions of data sets, and how they are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mekiki._values.annotation import time_of
from mekiki._values.image import from_mask, to_mask
from mekiki._values.word import number_of, word_of
from mekiki.codec.v1 import codec_pb2


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
    """AKAZE features and a robust map, as in the original tool."""

    NONE = "none"
    """Images stay as they are."""


class Transform(StrEnum):
    """What bringing an image to the reference may do to it."""

    RIGID = "rigid"
    """Turn and shift; pose scales, too, where the part is clearly not of the reference's size."""

    SIMILARITY = "similarity"
    """Turn, shift and scale."""

    AFFINE = "affine"
    """Turn, shift, scale, stretch and shear."""


class VideoCodec(StrEnum):
    """How prepared frames are compressed."""

    HEVC = "hevc"
    """H.265."""

    AV1 = "av1"
    """Free of royalties; its colour has half the resolution."""


class ChromaSampling(StrEnum):
    """Resolution of a video's colour."""

    HALF = "420"
    """Half of the brightness's, both ways (4:2:0)."""

    FULL = "444"
    """The brightness's (4:4:4); of HEVC only."""


class ReferenceChoice(StrEnum):
    """Which item the others are brought to."""

    MEDOID = "medoid"
    """The one that is most like the others."""

    FIRST = "first"
    """The first one by identifier, as in the original tool."""


class CategoryGrouping(StrEnum):
    """Which items share a reference, a mask and a stream of video."""

    ONE = "one"
    """All."""

    LABEL = "label"
    """Those with the same main label; without a part that stands out they stay as they are."""

    LOOKS = "looks"
    """Those that align to each other; what shows no part stays as it is, by size and channels."""


@dataclass(frozen=True)
class EncodingOptions:
    """How a prepared version is made. None takes the service's default; an encoding says what was used."""

    background: BackgroundRemoval = BackgroundRemoval.AUTO
    alignment: AlignmentMethod = AlignmentMethod.POSE
    blank_background: bool | None = None
    """Blank everything outside the union of the parts' masks; default true."""

    crf: int | None = None
    """Rate factor, 0 (largest) to 51 (smallest) of HEVC, default 28; to 63 of AV1, default 40."""

    gop: int | None = None
    """Frames a group of pictures: what a random read decodes at most, 1 to 250; default 16."""

    reference_item_id: str = ""
    """The item that the others are aligned to; default as `reference` says. Only where `categories` is ONE."""

    reference_splits: Sequence[str] = ()
    """Splits of which references are chosen, and whose parts make up the union mask; default "train" where there is
    such a split, else all."""

    mask_margin: int | None = None
    """Pixels by which the mask is widened, 0 to 1000; default 1 % of the longer side, of a given mask 0."""

    reference: ReferenceChoice = ReferenceChoice.MEDOID
    transform: Transform | None = None
    """What alignment may do to an image; default rigid for pose, similarity for akaze."""

    categories: CategoryGrouping = CategoryGrouping.ONE
    frame_side: int | None = None
    """Frames whose longer side is longer are shrunk to it, pixels, 64 to 16384; default: none is. Detectors look at a
    few hundred pixels, and what they do not see costs bytes."""

    video_codec: VideoCodec = VideoCodec.HEVC
    chroma: ChromaSampling | None = None
    """Default FULL where halving it would take much from some image, see `Encoding.chroma_loss`, else HALF."""

    mask: NDArray[np.bool_] | None = field(default=None, compare=False)
    """(h, w) bool: what is kept, in the pixels of the item `reference_item_id`, instead of the union of the parts'
    masks. Encoding fails, naming the item, where a part lies outside of it by more than 1 % of its area."""

    @classmethod
    def original(cls) -> Self:
        """The method that Mekiki grew from, whole: rembg, AKAZE to the first image, an affine map, union mask, HEVC."""
        return cls(
            background=BackgroundRemoval.REMBG,
            alignment=AlignmentMethod.AKAZE,
            blank_background=True,
            reference=ReferenceChoice.FIRST,
            transform=Transform.AFFINE,
        )

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
            reference=ReferenceChoice(word_of(codec_pb2.ReferenceChoice, options.reference) or "medoid"),
            transform=Transform(word) if (word := word_of(codec_pb2.Transform, options.transform)) else None,
            categories=CategoryGrouping(word_of(codec_pb2.CategoryGrouping, options.categories) or "one"),
            frame_side=options.frame_side if options.HasField("frame_side") else None,
            video_codec=VideoCodec(word_of(codec_pb2.VideoCodec, options.video_codec) or "hevc"),
            mask=from_mask(options.mask) if options.HasField("mask") else None,
            chroma=ChromaSampling(word) if (word := word_of(codec_pb2.ChromaSampling, options.chroma)) else None,
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
            reference=number_of(codec_pb2.ReferenceChoice, self.reference),
            transform=number_of(codec_pb2.Transform, self.transform or ""),
            categories=number_of(codec_pb2.CategoryGrouping, self.categories),
            frame_side=self.frame_side,
            video_codec=number_of(codec_pb2.VideoCodec, self.video_codec),
            chroma=number_of(codec_pb2.ChromaSampling, self.chroma or ""),
            mask=None if self.mask is None else to_mask(self.mask),
        )


DEFAULT_ENCODING = EncodingOptions()


@dataclass(frozen=True, eq=False)
class EncodedCategory:
    """A kind of part in an encoding: its items share a reference, a mask, and the size of their frames."""

    category: str
    """Unique in the encoding; empty where there is only one, or for items without a label."""

    item_count: int
    reference_item_id: str
    width: int
    height: int
    mask: NDArray[np.bool_] | None  # (height, width) bool
    """The union mask; None when nothing was blanked."""

    reason: str
    """Why its items stay as they are though an alignment was asked for; else empty."""

    @classmethod
    def from_proto(cls, category: codec_pb2.EncodedCategory) -> Self:
        """From the wire."""
        return cls(
            category=category.category,
            item_count=category.item_count,
            reference_item_id=category.reference_item_id,
            width=category.width,
            height=category.height,
            mask=from_mask(category.mask) if category.HasField("mask") else None,
            reason=category.reason,
        )


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
    categories: tuple[EncodedCategory, ...]
    """Its kinds of parts, at least one."""

    create_time: datetime
    chroma_loss: float
    """What halving the resolution of colour takes from it, in the worst block of 16 x 16 pixels of 32 images, grey
    levels; 0 of grey images."""

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
            categories=tuple(map(EncodedCategory.from_proto, encoding.categories)),
            create_time=time_of(encoding.create_time),
            chroma_loss=encoding.chroma_loss,
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
