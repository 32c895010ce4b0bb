"""Codec's RPCs: convert, delegate, convert."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.codec import answers, messages
from services.codec.append_stream import Gathering, append_frames
from services.codec.catalog import Snapshot
from services.codec.changes import Change
from services.codec.config import CodecSettings
from services.codec.encoding import Preparer
from services.codec.items import Item, Pixels
from services.codec.litter import list_grounds
from services.codec.model import Codec
from services.codec.options import fill_options
from services.codec.prepare import Prepared
from services.codec.preview_stream import open_previewing, stream_preview
from services.codec.read_stream import Parts, read_frames
from services.codec.reading import Selection
from services.runtime.batcher import Batcher
from services.runtime.chore import Chore
from services.runtime.errors import NotFound
from services.runtime.images import ImageReader, encode_tensor
from services.runtime.manifest import ManifestLog
from services.runtime.operations import Operations, open_operations
from services.runtime.server import Service
from services.runtime.store import Store
from services.runtime.streams import answer_frames
from services.runtime.sweep import open_sweeper
from services.runtime.tenants import list_visible

SERVICE = "codec"

Context = grpc.aio.ServicerContext[Message, Message]


@dataclass(frozen=True, eq=False)
class _Asked:
    """An image to prepare, and what prepares it."""

    preparer: Preparer
    pixels: Pixels
    category: str


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """Answers CodecService."""

    def __init__(self, settings: CodecSettings, codec: Codec, operations: Operations, sweeper: Chore) -> None:
        self._settings = settings
        self._codec = codec
        self._datasets = codec.datasets
        self._operations = operations
        self._sweeper = sweeper
        self._reader = ImageReader(settings.max_pixels, self._fetch_item)
        self._threads = ThreadPoolExecutor(settings.thread_count, thread_name_prefix="prepare")
        self._previewing = open_previewing()
        self._preparing: Batcher[_Asked, tuple[str, Prepared]] = Batcher(
            "codec.prepare",
            self._prepare_batch,
            max_batch=settings.max_batch,
            max_wait_s=0.0,  # images are prepared one by one: company brings nothing
            queue_limit=settings.queue_limit,
        )
        # What waits while one manifest is written goes into the next one together.
        self._updating: Batcher[tuple[str, Change], Item] = Batcher(
            "codec.update",
            self._datasets.update_each,
            max_batch=settings.update_queue_limit,
            max_wait_s=0.0,
            queue_limit=settings.update_queue_limit,
        )

    async def CreateDataset(  # noqa: N802 - the contract's name
        self, request: codec_pb2.CreateDatasetRequest, _: Context
    ) -> codec_pb2.CreateDatasetResponse:
        """Creates an empty data set."""
        snapshot = await asyncio.to_thread(self._datasets.create, messages.read_name(request.dataset))
        return codec_pb2.CreateDatasetResponse(dataset=answers.write_dataset(snapshot, []))

    async def GetDataset(  # noqa: N802
        self, request: codec_pb2.GetDatasetRequest, _: Context
    ) -> codec_pb2.GetDatasetResponse:
        """Describes a data set."""
        dataset = await asyncio.to_thread(self._describe, messages.read_name(request.dataset))
        return codec_pb2.GetDatasetResponse(dataset=dataset)

    async def ListDatasets(  # noqa: N802
        self, request: codec_pb2.ListDatasetsRequest, _: Context
    ) -> codec_pb2.ListDatasetsResponse:
        """Lists data sets by name."""
        visible = list_visible(await asyncio.to_thread(self._datasets.list_names))
        names, token = messages.read_page(request, visible)
        datasets = await asyncio.to_thread(lambda: [self._describe(name) for name in names])
        return codec_pb2.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    async def DeleteDataset(  # noqa: N802
        self, request: codec_pb2.DeleteDatasetRequest, _: Context
    ) -> codec_pb2.DeleteDatasetResponse:
        """Deletes a data set with everything in it."""
        await asyncio.to_thread(self._datasets.delete, messages.read_name(request.dataset))
        return codec_pb2.DeleteDatasetResponse()

    async def AppendItems(  # noqa: N802
        self, request_iterator: AsyncIterator[codec_pb2.AppendItemsRequest], _: Context
    ) -> AsyncIterator[codec_pb2.AppendItemsResponse]:
        """Appends one item a frame."""
        settings = self._settings
        gathering = Gathering(
            items=settings.segment_items,
            ahead=settings.stream_window,
            wait_s=settings.segment_wait_ms / 1000,
            max_pixels=settings.max_pixels,
        )
        async for response in append_frames(self._datasets, request_iterator, gathering):
            yield response

    async def ReadItems(  # noqa: N802
        self, request: codec_pb2.ReadItemsRequest, _: Context
    ) -> AsyncIterator[codec_pb2.ReadItemsResponse]:
        """Reads items by identifier, or as they are stored."""
        asked = request.items
        name, prepared = (
            messages.read_name(asked.dataset, "items.dataset"),
            messages.read_form(asked.form, "items.form"),
        )
        found = await asyncio.to_thread(
            self._codec.find_items,
            name,
            messages.read_selection(asked),
            prepared=prepared,
            encoding_id=asked.encoding_id,
        )
        settings = self._settings
        parts = Parts(not request.metadata_only, request.with_masks, settings.max_message_bytes, settings.thread_count)
        async for response in read_frames(found, parts, storage_order=request.storage_order):
            yield response

    async def GetItem(  # noqa: N802
        self, request: codec_pb2.GetItemRequest, _: Context
    ) -> codec_pb2.GetItemResponse:
        """Describes an item."""
        item = await asyncio.to_thread(self._find_item, messages.read_name(request.dataset), request.item_id)
        return codec_pb2.GetItemResponse(item=answers.write_item(item))

    async def UpdateItem(  # noqa: N802
        self, request: codec_pb2.UpdateItemRequest, _: Context
    ) -> codec_pb2.UpdateItemResponse:
        """Changes an item."""
        name = messages.read_name(request.dataset)
        item = await asyncio.to_thread(self._find_item, name, request.item.item_id)
        change = await asyncio.to_thread(messages.read_change, request, item, self._settings.max_pixels)
        updated = await self._updating.submit((name, change))
        return codec_pb2.UpdateItemResponse(item=answers.write_item(updated))

    async def EncodeDataset(  # noqa: N802
        self, request: codec_pb2.EncodeDatasetRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        name = messages.read_name(request.dataset)
        options = messages.read_options(request.options, self._settings.max_pixels)
        snapshot = await asyncio.to_thread(self._datasets.open, name)
        fill_options(snapshot, options)
        self._codec.open_remover(options.background)
        return await self._operations.start("EncodeDataset", request)

    async def CompactDataset(self, request: codec_pb2.CompactDatasetRequest, _: Context) -> operations_pb2.Operation:  # noqa: N802
        """Checks the request and starts the work."""
        return await self._start("CompactDataset", request)

    async def VerifyDataset(self, request: codec_pb2.VerifyDatasetRequest, _: Context) -> operations_pb2.Operation:  # noqa: N802
        """Checks the request and starts the work."""
        return await self._start("VerifyDataset", request)

    async def PrepareImage(  # noqa: N802
        self, request: codec_pb2.PrepareImageRequest, _: Context
    ) -> codec_pb2.PrepareImageResponse:
        """Prepares one image."""
        return await self._prepare(request)

    async def PreviewEncoding(  # noqa: N802
        self, request: codec_pb2.PreviewEncodingRequest, _: Context
    ) -> AsyncIterator[codec_pb2.PreviewEncodingResponse]:
        """Shows prepared pixels at another rate."""
        async for response in stream_preview(self._codec, messages.read_preview(request), self._previewing):
            yield response

    async def PrepareImages(  # noqa: N802
        self, request_iterator: AsyncIterator[codec_pb2.PrepareImagesRequest], _: Context
    ) -> AsyncIterator[codec_pb2.PrepareImagesResponse]:
        """Prepares one image a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(request_iterator, self._prepare, codec_pb2.PrepareImagesResponse, window):
            yield answer

    async def start(self) -> None:
        """Starts what works beside the calls."""
        self._sweeper.start()

    async def close(self) -> None:
        """Ends what was started."""
        self._sweeper.close()
        await self._preparing.close()
        await self._updating.close()
        self._threads.shutdown()
        self._previewing.shutdown(cancel_futures=True)
        await asyncio.to_thread(self._codec.close)

    async def _prepare(self, request: codec_pb2.PrepareImageRequest) -> codec_pb2.PrepareImageResponse:
        name = messages.read_name(request.dataset)
        record, preparer = await asyncio.to_thread(self._codec.find_preparer, name, request.encoding_id)
        self._preparing.check_room()
        pixels = await self._reader.read(request.image)
        category, prepared = await self._preparing.submit(_Asked(preparer, pixels, request.category))
        return codec_pb2.PrepareImageResponse(
            image=encode_tensor(prepared.image),
            alignment=answers.write_alignment(prepared.alignment, category),
            encoding_id=record.encoding_id,
            image_width=pixels.shape[1],
            image_height=pixels.shape[0],
        )

    async def _start(
        self, verb: str, request: codec_pb2.CompactDatasetRequest | codec_pb2.VerifyDatasetRequest
    ) -> operations_pb2.Operation:
        await asyncio.to_thread(self._datasets.open, messages.read_name(request.dataset))
        return await self._operations.start(verb, request)

    def _prepare_batch(self, batch: list[_Asked]) -> list[tuple[str, Prepared] | Exception]:
        return list(self._threads.map(_prepare_one, batch))

    def _describe(self, name: str) -> codec_pb2.Dataset:
        snapshot = self._datasets.open(name)
        return answers.write_dataset(snapshot, self._describe_encodings(snapshot))

    def _describe_encodings(self, snapshot: Snapshot) -> list[codec_pb2.Encoding]:
        encodings = self._codec.encodings
        records = encodings.list_records(snapshot)
        return [answers.write_encoding(record, encodings.read_masks(snapshot, record)) for record in records]

    def _find_item(self, name: str, item_id: str) -> Item:
        item = self._datasets.open(name).items.get(item_id)
        if item is None:
            raise NotFound("item", item_id)
        return item

    async def _fetch_item(self, reference: types_pb2.ItemRef) -> Pixels:
        return await asyncio.to_thread(self._read_item, reference)

    def _read_item(self, reference: types_pb2.ItemRef) -> Pixels:
        name = messages.read_name(reference.dataset, "image.item.dataset")
        prepared = messages.read_form(reference.form, "image.item.form")
        selection = Selection(item_ids=(reference.item_id,))
        found = self._codec.find_items(name, selection, prepared=prepared, encoding_id=reference.encoding_id)
        if not found.items:
            raise NotFound("item", reference.item_id)
        return found.reader.read(found.items[0]).pixels


def open_codec(settings: CodecSettings, store: Store) -> Codec:
    """Returns the model on the service's part of the store."""
    folders = [folder for folder in (settings.weights_dir, settings.u2net_home) if folder is not None]
    grace_s = settings.sweep_grace_s
    return Codec(store, partial(ManifestLog, store, has_copies=True), folders, settings.child_idle_s, grace_s)


def open_service(settings: CodecSettings) -> Service:
    """Opens the service inside the running loop."""
    store = Store.open(settings.store_url).prefixed(SERVICE)
    operations = open_operations(SERVICE, store, settings)
    sweeper = open_sweeper(lambda: list_grounds(store), settings.sweep_grace_s, settings.sweep_every_s)
    servicer = CodecServicer(settings, open_codec(settings, store), operations, sweeper)
    return Service(
        name=SERVICE,
        descriptor=codec_pb2.DESCRIPTOR.services_by_name["CodecService"],
        servicer=servicer,
        add_to_server=codec_pb2_grpc.add_CodecServiceServicer_to_server,
        operations=operations,
        start=servicer.start,
        close=servicer.close,
    )


def _prepare_one(asked: _Asked) -> tuple[str, Prepared] | Exception:
    try:
        return asked.preparer.prepare(asked.pixels, asked.category)
    except Exception as error:  # noqa: BLE001 - fails this image alone
        return error
