"""Answers ReadItems: a few items ahead of the caller, each with its pixels or its own error."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from mekiki.codec.v1 import codec_pb2
from services.codec import answers
from services.codec.failures import tell_failure
from services.codec.items import Item
from services.codec.model import ItemsToRead
from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.images import encode_tensor

Response = codec_pb2.ReadItemsResponse

AHEAD = 3
"""Items that are read while the caller takes one: memory holds about so many images a stream."""
ENVELOPE_BYTES = 4096


async def read_frames(found: ItemsToRead, *, metadata_only: bool, message_bytes: int) -> AsyncIterator[Response]:
    """Yields one response an item, by identifier; asked-for items that do not exist answer NotFound."""
    everything: list[Item | str] = sorted([*found.items, *found.missing], key=_name)
    working: deque[asyncio.Task[Response]] = deque()
    try:
        for item in everything:
            answer = asyncio.to_thread(_answer, found, item, metadata_only, message_bytes)
            working.append(asyncio.create_task(answer))
            if len(working) >= AHEAD:
                yield await working.popleft()
        while working:
            yield await working.popleft()
    finally:
        for task in working:
            task.cancel()


def _name(item: Item | str) -> str:
    return item if isinstance(item, str) else item.item_id


def _answer(found: ItemsToRead, item: Item | str, metadata_only: bool, message_bytes: int) -> Response:  # noqa: FBT001
    if isinstance(item, str):
        return _fail(codec_pb2.Item(item_id=item), NotFound("item", item))
    told = answers.write_item(item)
    if metadata_only:
        return Response(item=told)
    try:
        return _read(found, item, told, message_bytes)
    except Exception as error:  # noqa: BLE001 - a damaged item must not end the stream
        return _fail(told, error)


def _read(found: ItemsToRead, item: Item, told: codec_pb2.Item, message_bytes: int) -> Response:
    read = found.reader.read(item)
    size = read.pixels.nbytes + told.ByteSize() + ENVELOPE_BYTES
    if size > message_bytes:
        message = f"item {item.item_id!r} takes {size} bytes, more than a message may have ({message_bytes})"
        raise FailedPrecondition("ITEM_TOO_LARGE", f"{message}; raise MEKIKI_MAX_MESSAGE_BYTES on both sides")
    alignment = None if read.alignment is None else answers.write_alignment(read.alignment)
    return Response(item=told, image=encode_tensor(read.pixels), alignment=alignment)


def _fail(told: codec_pb2.Item, error: Exception) -> Response:
    return Response(item=told, error=tell_failure(error))
