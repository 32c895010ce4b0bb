"""Answers ReadItems: a few items ahead of the caller, each with its pixels or its own error."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from mekiki.codec.v1 import codec_pb2
from services.codec import answers
from services.codec.failures import tell_failure
from services.codec.items import Item
from services.codec.model import ItemsToRead
from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.images import encode_mask, encode_tensor

Response = codec_pb2.ReadItemsResponse

AHEAD = 3
"""Items that are read while the caller takes one: memory holds about so many images a stream."""
ENVELOPE_BYTES = 4096


@dataclass(frozen=True)
class Parts:
    """What of each item is sent besides its description, and how large a message may be."""

    pixels: bool
    mask: bool
    message_bytes: int


async def read_frames(found: ItemsToRead, parts: Parts, *, storage_order: bool) -> AsyncIterator[Response]:
    """Yields one response an item, by identifier; asked-for items that do not exist answer NotFound."""
    everything: list[Item | str] = [*(found.items_as_stored() if storage_order else found.items), *found.missing]
    if not storage_order:
        everything.sort(key=lambda item: item if isinstance(item, str) else item.item_id)
    working: deque[asyncio.Task[Response]] = deque()
    try:
        for item in everything:
            working.append(asyncio.create_task(asyncio.to_thread(_answer, found, item, parts)))
            if len(working) >= AHEAD:
                yield await working.popleft()
        while working:
            yield await working.popleft()
    finally:
        for task in working:
            task.cancel()


def _answer(found: ItemsToRead, item: Item | str, parts: Parts) -> Response:
    if isinstance(item, str):
        return _fail(codec_pb2.Item(item_id=item), NotFound("item", item))
    told = answers.write_item(item)
    try:
        return _read(found, item, told, parts)
    except Exception as error:  # noqa: BLE001 - a damaged item must not end the stream
        return _fail(told, error)


def _read(found: ItemsToRead, item: Item, told: codec_pb2.Item, parts: Parts) -> Response:
    mask = found.read_mask(item) if parts.mask else None
    response = Response(item=told, mask=None if mask is None else encode_mask(mask))
    if not parts.pixels:
        return response
    read = found.reader.read(item)
    size = read.pixels.nbytes + response.ByteSize() + ENVELOPE_BYTES
    if size > parts.message_bytes:
        message = f"item {item.item_id!r} takes {size} bytes, more than a message may have ({parts.message_bytes})"
        raise FailedPrecondition("ITEM_TOO_LARGE", f"{message}; raise MEKIKI_MAX_MESSAGE_BYTES on both sides")
    response.image.CopyFrom(encode_tensor(read.pixels))
    if read.alignment is not None:
        response.alignment.CopyFrom(answers.write_alignment(read.alignment, read.category))
    return response


def _fail(told: codec_pb2.Item, error: Exception) -> Response:
    return Response(item=told, error=tell_failure(error))
