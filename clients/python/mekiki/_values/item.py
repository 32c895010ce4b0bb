"""Items of a data set, and what is done to an image to make it comparable with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mekiki import errors
from mekiki._values.annotation import Affine, Annotation, time_of
from mekiki._values.image import ImageLike, from_image, from_mask, from_trimap, to_image, to_mask, to_trimap
from mekiki.codec.v1 import codec_pb2


@dataclass(frozen=True)
class Item:
    """An item, without its pixels."""

    item_id: str
    labels: tuple[str, ...]
    """The main one first."""

    group: str
    """Part, author or day: items of one group never straddle a split."""

    split: str
    sha256: str
    """Of the original pixels (raw, row by row), in hexadecimal."""

    width: int
    height: int
    channels: int
    bit_depth: int
    annotations: tuple[Annotation, ...]
    etag: str
    """Changes with every update."""

    create_time: datetime
    has_mask: bool
    """Whether a person's mask of it is stored; see `read_items`."""

    has_trimap: bool = False
    """Whether a person's trimap is, instead: it is known of some pixels what they show."""

    @property
    def label(self) -> str:
        """The main label; empty where there is none."""
        return self.labels[0] if self.labels else ""

    @classmethod
    def from_proto(cls, item: codec_pb2.Item) -> Self:
        """From the wire."""
        return cls(
            item_id=item.item_id,
            labels=tuple(item.labels),
            group=item.group,
            split=item.split,
            sha256=item.sha256,
            width=item.width,
            height=item.height,
            channels=item.channels,
            bit_depth=item.bit_depth,
            annotations=tuple(map(Annotation.from_proto, item.annotations)),
            etag=item.etag,
            create_time=time_of(item.create_time),
            has_mask=item.has_mask,
            has_trimap=item.has_trimap,
        )


@dataclass(frozen=True, eq=False)
class NewItem:
    """An item to append."""

    item_id: str
    """Unique in the data set: 1 to 255 bytes of UTF-8 without control characters."""

    image: ImageLike
    """Pixels, a Pillow image, an encoded file's bytes or path; no item of a data set."""

    labels: Sequence[str] = ()
    """The main one first."""

    group: str = ""
    split: str = ""
    annotations: Sequence[Annotation] = ()
    mask: NDArray[Any] | None = None
    """(h, w) bool, of the image's size: which pixels the main label is about, such as those of a defect."""

    trimap: NDArray[Any] | None = None
    """(h, w) uint8 of the values of `Trimap`, instead of a mask: the same of some pixels."""

    def to_proto(self) -> codec_pb2.NewItem:
        """For the wire; reads the file where the image is a path."""
        return codec_pb2.NewItem(
            item_id=self.item_id,
            image=to_image(self.image),
            labels=self.labels,
            group=self.group,
            split=self.split,
            annotations=[annotation.to_proto() for annotation in self.annotations],
            mask=None if self.mask is None else to_mask(self.mask),
            trimap=None if self.trimap is None else to_trimap(self.trimap),
        )


@dataclass(frozen=True)
class AppendedItem:
    """An item that is durable."""

    item: Item
    duplicate: bool
    """It was there already, with the same pixels; nothing was changed."""

    @classmethod
    def from_proto(cls, response: codec_pb2.AppendItemsResponse) -> Self:
        """From the wire."""
        return cls(Item.from_proto(response.response.item), response.response.duplicate)


@dataclass(frozen=True, eq=False)
class Alignment:
    """How an image was brought to a reference."""

    affine: Affine
    """From the original's pixels to the prepared image's."""

    aligned: bool
    """False: it did not align and was only placed into the frame."""

    score: float
    """IoU of its mask, once aligned, with the reference's, 0 to 1."""

    reason: str
    """Why it did not align; empty when it did."""

    category: str = ""
    """The category of the encoding that it was brought to the reference of."""

    @classmethod
    def from_proto(cls, alignment: codec_pb2.Alignment) -> Self:
        """From the wire."""
        return cls(
            affine=Affine.from_proto(alignment.affine),
            aligned=alignment.aligned,
            score=alignment.score,
            reason=alignment.reason,
            category=alignment.category,
        )


@dataclass(frozen=True, eq=False)
class ReadItem:
    """An item of ReadItems with its pixels, or with what is wrong with it."""

    item: Item
    alignment: Alignment | None
    """How it was brought to the reference; None for original pixels."""

    result: NDArray[Any] | None
    """The pixels; None where the item is damaged or only its description was asked for."""

    error: errors.MekikiError | None
    """What is wrong with this item; the stream goes on."""

    mask: NDArray[np.bool_] | None
    """(height, width) of the original; None where it has none or none was asked for."""

    trimap: NDArray[np.uint8] | None = None
    """(height, width) of the original, of the values of `Trimap`; None where it has none or none was asked for."""

    @property
    def pixels(self) -> NDArray[Any]:
        """The pixels, (h, w) or (h, w, 1|3|4) uint8 or uint16, read-only.

        Raises:
            MekikiError: the item's own error, such as DataLoss.
        """
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise errors.FailedPrecondition("only the item's description was read", reason="METADATA_ONLY")
        return self.result

    @classmethod
    def from_proto(cls, response: codec_pb2.ReadItemsResponse) -> Self:
        """From the wire."""
        return cls(
            item=Item.from_proto(response.item),
            alignment=Alignment.from_proto(response.alignment) if response.HasField("alignment") else None,
            result=from_image(response.image) if response.HasField("image") else None,
            error=errors.from_status(response.error) if response.HasField("error") else None,
            mask=from_mask(response.mask) if response.HasField("mask") else None,
            trimap=from_trimap(response.trimap) if response.HasField("trimap") else None,
        )


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image prepared as the items of an encoding were."""

    pixels: NDArray[Any]
    """(height, width) or (height, width, 3|4) of the encoding, uint8 or uint16, read-only."""

    alignment: Alignment
    encoding_id: str
    image_width: int
    """Width of the image as sent, pixels."""

    image_height: int
    """Height of the image as sent, pixels."""

    @classmethod
    def from_proto(cls, response: codec_pb2.PrepareImageResponse) -> Self:
        """From the wire."""
        return cls(
            pixels=from_image(response.image),
            alignment=Alignment.from_proto(response.alignment),
            encoding_id=response.encoding_id,
            image_width=response.image_width,
            image_height=response.image_height,
        )


@dataclass(frozen=True, eq=False)
class PreviewedItem:
    """An item as it comes out of a video at another rate."""

    item_id: str
    pixels: NDArray[Any]
    """(height, width) or (height, width, 3), uint8, read-only."""

    frame_bytes: int
    """Of its frame in the video."""

    @classmethod
    def from_proto(cls, response: codec_pb2.PreviewEncodingResponse) -> Self:
        """From the wire."""
        return cls(response.item_id, from_image(response.image), response.frame_bytes)
