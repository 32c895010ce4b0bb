"""Appends a stream of items, several at a time: each is acknowledged, in order, once it is durable."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from mekiki.codec.v1 import codec_pb2
from services.codec import answers, messages
from services.codec.changes import Appended, NewItem
from services.codec.dataset import Datasets
from services.codec.failures import tell_failure
from services.runtime.errors import InvalidArgument
from services.runtime.images import decode_image

Request = codec_pb2.AppendItemsRequest
Response = codec_pb2.AppendItemsResponse

BATCH_BYTES = 64 << 20
"""Pixels that are gathered before they are written, bytes."""


@dataclass(frozen=True)
class Gathering:
    """How items are gathered: at most so many, so many read ahead, and how long the next one is waited for."""

    items: int
    ahead: int
    wait_s: float
    max_pixels: int


@dataclass(frozen=True, eq=False)
class _Frame:
    """A frame that was read: its tag, and its item or what is wrong with it."""

    tag: str
    content: NewItem | Exception


async def append_frames(
    datasets: Datasets, requests: AsyncIterator[Request], gathering: Gathering
) -> AsyncIterator[Response]:
    """Yields one answer a frame, in order. The first frame names the data set."""
    arriving: asyncio.Queue[asyncio.Task[_Frame] | None] = asyncio.Queue(gathering.ahead)
    dataset = _Dataset()
    reader = asyncio.create_task(_read(requests, arriving, dataset, gathering.max_pixels))
    try:
        while frames := await _gather(arriving, gathering):
            for response in await _append(datasets, dataset.name, frames):
                yield response
        await reader
    finally:
        reader.cancel()


@dataclass
class _Dataset:
    """The stream's data set, once its first frame has named it."""

    name: str = ""


async def _read(
    requests: AsyncIterator[Request],
    arriving: asyncio.Queue[asyncio.Task[_Frame] | None],
    dataset: _Dataset,
    max_pixels: int,
) -> None:
    try:
        async for request in requests:
            dataset.name = dataset.name or request.dataset
            decoding = asyncio.to_thread(_decode, request, dataset.name, max_pixels)
            await arriving.put(asyncio.create_task(decoding))
    finally:
        await arriving.put(None)


async def _gather(arriving: asyncio.Queue[asyncio.Task[_Frame] | None], gathering: Gathering) -> list[_Frame]:
    """Returns frames that are to be written together; none when the stream has ended."""
    frames: list[_Frame] = []
    held = 0
    while len(frames) < gathering.items and held < BATCH_BYTES:
        try:
            async with asyncio.timeout(gathering.wait_s if frames else None):
                decoding = await arriving.get()
        except TimeoutError:
            break
        if decoding is None:
            arriving.put_nowait(None)  # the next call is to find the end again
            break
        frame = await decoding
        frames.append(frame)
        held += frame.content.pixels.nbytes if isinstance(frame.content, NewItem) else 0
    return frames


def _decode(request: Request, dataset: str, max_pixels: int) -> _Frame:
    try:
        return _Frame(request.id, _read_item(request, dataset, max_pixels))
    except Exception as error:  # noqa: BLE001 - a bad frame must not end the stream
        return _Frame(request.id, error)


def _read_item(request: Request, dataset: str, max_pixels: int) -> NewItem:
    item = request.item
    if messages.read_name(request.dataset) != dataset:
        raise InvalidArgument("dataset", f"must be the same in all frames, {dataset!r}, is {request.dataset!r}")
    item_id = messages.read_item_id(item.item_id, "item.item_id")
    if item.image.WhichOneof("source") == "item":
        raise InvalidArgument("item.image.item", "not accepted here; send encoded or tensor")
    pixels = decode_image(item.image, max_pixels, "item.image")
    height, width = pixels.shape[:2]
    return NewItem(
        item_id=item_id,
        pixels=pixels,
        original_bytes=len(item.image.encoded) or len(item.image.tensor.data),
        labels=messages.read_labels(item.labels, "item.labels"),
        group=messages.read_short(item.group, "item.group"),
        split=messages.read_short(item.split, "item.split"),
        annotations=messages.read_annotations(item.annotations, width, height, "item.annotations"),
        mask=messages.read_drawn(item, width, height, max_pixels),
    )


async def _append(datasets: Datasets, dataset: str, frames: Sequence[_Frame]) -> list[Response]:
    items = [frame.content for frame in frames if isinstance(frame.content, NewItem)]
    outcomes: Sequence[Appended | Exception] = []
    if items:
        try:
            outcomes = await asyncio.to_thread(datasets.append, dataset, items)
        except Exception as error:  # noqa: BLE001 - told to each of the frames
            outcomes = [error] * len(items)
    left = iter(outcomes)
    return [_answer(frame, next(left) if isinstance(frame.content, NewItem) else frame.content) for frame in frames]


def _answer(frame: _Frame, outcome: Appended | Exception) -> Response:
    if isinstance(outcome, Appended):
        appended = codec_pb2.AppendedItem(item=answers.write_item(outcome.item), duplicate=outcome.duplicate)
        return Response(id=frame.tag, response=appended)
    return Response(id=frame.tag, error=tell_failure(outcome))
