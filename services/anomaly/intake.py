"""From an image as it is sent to what a detector judges: codec prepares it where the detector was trained so."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import mekiki
from mekiki.types.v1 import types_pb2
from services.anomaly.entries import About
from services.anomaly.frames import Placement
from services.runtime.errors import InvalidArgument, NotFound
from services.runtime.images import ImageReader, Pixels, filter_one


@dataclass(frozen=True, eq=False)
class Taken:
    """Pixels to judge, where they came from, and whether they aligned to the reference."""

    pixels: Pixels
    placement: Placement
    aligned: bool


class Intake:
    """Takes images for the servicer, from the request itself or through codec."""

    def __init__(self, codec: mekiki.AsyncClient, max_pixels: int) -> None:
        self._codec = codec
        self._reader = ImageReader(max_pixels, self._fetch_item)

    async def take(self, image: types_pb2.Image, about: About, field: str = "image") -> Taken:
        """The image as the detector wants it.

        Raises:
            InvalidArgument: no image; names `field`.
            NotFound: an item that there is not.
        """
        if not about.encoding_id:
            return take_as_sent(await self._reader.read(image, field))
        if is_prepared_item(image, about):
            return await self._take_prepared_item(image.item, about, field)
        if image.WhichOneof("source") != "item":
            # Decoded here, so that a bad image is refused in our words, naming the field of our request.
            pixels = await self._reader.read(image, field)
            return take_prepared(
                await self._codec.codec.prepare_image(
                    about.dataset, pixels, encoding_id=about.encoding_id, category=about.encoding_category
                )
            )
        return take_prepared(
            await self._codec.codec.prepare_image(
                about.dataset, image, encoding_id=about.encoding_id, category=about.encoding_category
            )
        )

    async def _take_prepared_item(self, item: types_pb2.ItemRef, about: About, field: str) -> Taken:
        read = await self._read_item(item)
        found = read.alignment
        if found is not None and about.encoding_category and found.category != about.encoding_category:
            wanted = f"of category {about.encoding_category!r} of the encoding, is of {found.category!r}"
            raise InvalidArgument(f"{field}.item", f"must be {wanted}")
        return take_as_sent(read.pixels, found is None or found.aligned)

    async def _fetch_item(self, item: types_pb2.ItemRef) -> Pixels:
        return (await self._read_item(item)).pixels

    async def _read_item(self, item: types_pb2.ItemRef) -> mekiki.ReadItem:
        async for read in self._codec.codec.read_items(filter_one(item)):
            return read
        raise NotFound("item", f"{item.dataset}/{item.item_id}")


def is_prepared_item(image: types_pb2.Image, about: About) -> bool:
    """Whether the image is an item of codec that is prepared just as the detector wants it."""
    item = image.item
    same = item.dataset == about.dataset and item.encoding_id in ("", about.encoding_id)
    return image.WhichOneof("source") == "item" and item.form == types_pb2.ITEM_FORM_PREPARED and same


def take_as_sent(pixels: Pixels, aligned: bool = True) -> Taken:  # noqa: FBT001, FBT002 - two results of one call
    """Pixels that are judged as they are."""
    return Taken(pixels, Placement(np.eye(2, 3), (pixels.shape[0], pixels.shape[1])), aligned)


def take_prepared(prepared: mekiki.PreparedImage) -> Taken:
    """Pixels that codec prepared."""
    placement = Placement(prepared.alignment.affine.matrix, (prepared.image_height, prepared.image_width))
    return Taken(prepared.pixels, placement, prepared.alignment.aligned)


def take_items(codec: mekiki.Client, items: types_pb2.ItemFilter, about: About) -> Iterator[tuple[mekiki.Item, Taken]]:
    """Items of a data set, one at a time, taken from their original pixels just as the servicer would take them.

    Raises:
        MekikiError: an item that cannot be read or prepared.
    """
    wanted = to_originals(items)
    if items.category:  # originals have none: they are named instead
        wanted.item_ids[:] = [read.item.item_id for read in codec.codec.read_items(items, metadata_only=True)]
    if not about.encoding_id:
        for read in codec.codec.read_items(wanted):
            yield read.item, take_as_sent(read.pixels)
        return
    described = [read.item for read in codec.codec.read_items(wanted, metadata_only=True)]
    references = (mekiki.ItemRef(items.dataset, item.item_id) for item in described)
    answers = codec.codec.prepare_images(
        about.dataset, references, encoding_id=about.encoding_id, category=about.encoding_category
    )
    for item, answer in zip(described, answers, strict=True):
        if answer.error is not None:
            raise answer.error
        yield item, take_prepared(answer.value)


def to_originals(items: types_pb2.ItemFilter) -> types_pb2.ItemFilter:
    """The same items in their original form; which are of a category of an encoding, originals do not tell."""
    wanted = types_pb2.ItemFilter()
    wanted.CopyFrom(items)
    wanted.form, wanted.encoding_id, wanted.category = types_pb2.ITEM_FORM_ORIGINAL, "", ""
    return wanted
