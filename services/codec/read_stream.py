"""Answers ReadItems: a few items ahead of the caller, each with its pixels or its own error."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from mekiki.codec.v1 import codec_pb2
from services.codec import answers
from services.codec.failures import tell_failure
from services.codec.items import Item
from services.codec.model import ItemsToRead
from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.images import encode_mask, encode_tensor, encode_trimap

Response = codec_pb2.ReadItemsResponse

LEAST_AHEAD = 3
"""Items that are read while the caller takes one."""

AHEAD_BYTES = 64 << 20
"""Pixels of a stream that are in memory, about, where a machine has cores to read more items at once."""

ENVELOPE_BYTES = 4096


@dataclass(frozen=True)
class Parts:
    """What of each item is sent besides its description, how large a message may be, and how many are read at once."""

    pixels: bool
    mask: bool
    message_bytes: int
    threads: int


async def read_frames(found: ItemsToRead, parts: Parts, *, storage_order: bool) -> AsyncIterator[Response]:
    """Yields one response an item, by identifier; asked-for items that do not exist answer NotFound."""
    everything: list[Item | str] = [*(found.items_as_stored() if storage_order else found.items), *found.missing]
    if not storage_order:
        everything.sort(key=lambda item: item if isinstance(item, str) else item.item_id)
    working: deque[tuple[int, asyncio.Task[Response]]] = deque()
    try:
        for item in everything:
            task = asyncio.create_task(asyncio.to_thread(_answer, found, item, parts))
            working.append((0 if isinstance(item, str) else item.pixel_bytes, task))
            while _is_enough([size for size, _ in working], parts.threads):
                yield await working.popleft()[1]
        while working:
            yield await working.popleft()[1]
    finally:
        for _, task in working:
            task.cancel()


def _is_enough(sizes: Sequence[int], threads: int) -> bool:
    """Whether so many items, of so many bytes, are far enough ahead."""
    return len(sizes) >= LEAST_AHEAD and (len(sizes) > threads or sum(sizes) > AHEAD_BYTES)


def _answer(found: ItemsToRead, item: Item | str, parts: Parts) -> Response:
    if isinstance(item, str):
        return _fail(codec_pb2.Item(item_id=item), NotFound("item", item))
    told = answers.write_item(item)
    try:
        return _read(found, item, told, parts)
    except Exception as error:  # noqa: BLE001 - a damaged item must not end the stream
        return _fail(told, error)


def _read(found: ItemsToRead, item: Item, told: codec_pb2.Item, parts: Parts) -> Response:
    response = Response(item=told)
    mask = found.read_mask(item) if parts.mask else None
    if mask is not None and item.mask_is_partial:
        response.trimap.CopyFrom(encode_trimap(mask))
    elif mask is not None:
        response.mask.CopyFrom(encode_mask(mask >= 128))
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
