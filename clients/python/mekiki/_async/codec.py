"""Codec: how is a data set kept small, and how is an image made comparable?"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from google.longrunning import operations_pb2_grpc

from mekiki._async.funnel import Funnel
from mekiki._async.operation import AsyncOperation
from mekiki._async.streams import Travel, answer_frames, tag_frames
from mekiki._values.annotation import Annotation
from mekiki._values.dataset import Compaction, Dataset, ItemsLike, Verification, to_item_filter
from mekiki._values.encoding import DEFAULT_ENCODING, EncodedDataset, EncodingOptions
from mekiki._values.frame import Answer, Frame
from mekiki._values.image import Array, ImageLike, to_image, to_mask, to_trimap
from mekiki._values.item import AppendedItem, Item, NewItem, PreparedImage, PreviewedItem, ReadItem
from mekiki._wire import asynchronous as wire
from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from mekiki.types.v1 import types_pb2

PAGE_SIZE = 1000


class AsyncCodec:
    """Data sets: every image exactly, and a prepared, tiny version of it."""

    def __init__(self, channel: wire.Channel, funnel: Funnel) -> None:
        self._funnel = funnel
        self._stub = codec_pb2_grpc.CodecServiceStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)

    async def create_dataset(self, dataset: str, *, timeout_s: float | None = None) -> Dataset:
        """Creates an empty data set.

        Raises:
            AlreadyExists: the name is taken.
            InvalidArgument: the name is not a letter or digit followed by up to 62 letters, digits, '-', '_' or '.'.
        """
        request = codec_pb2.CreateDatasetRequest(dataset=dataset)
        response = await self._funnel.unary(self._stub.CreateDataset, request, timeout_s)
        return Dataset.from_proto(response.dataset)

    async def get_dataset(self, dataset: str, *, timeout_s: float | None = None) -> Dataset:
        """Describes a data set.

        Raises:
            NotFound: there is none of that name.
        """
        request = codec_pb2.GetDatasetRequest(dataset=dataset)
        response = await self._funnel.unary(self._stub.GetDataset, request, timeout_s)
        return Dataset.from_proto(response.dataset)

    async def list_datasets(self, *, timeout_s: float | None = None) -> tuple[Dataset, ...]:
        """All data sets, by name; `timeout_s` is for each page of 1000."""
        datasets: list[Dataset] = []
        request = codec_pb2.ListDatasetsRequest(page_size=PAGE_SIZE)
        while True:
            response = await self._funnel.unary(self._stub.ListDatasets, request, timeout_s)
            datasets += map(Dataset.from_proto, response.datasets)
            if not response.next_page_token:
                return tuple(datasets)
            request.page_token = response.next_page_token

    async def delete_dataset(self, dataset: str, *, timeout_s: float | None = None) -> None:
        """Deletes a data set with everything in it.

        Raises:
            NotFound: there is none of that name.
        """
        request = codec_pb2.DeleteDatasetRequest(dataset=dataset)
        await self._funnel.unary(self._stub.DeleteDataset, request, timeout_s)

    async def append_items(
        self,
        dataset: str,
        items: wire.Input[NewItem],
        *,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[AppendedItem], None]:
        """Appends items; an answer comes, in order and tagged with the item's id, once the item is durable.

        Args:
            dataset: name of a data set that exists.
            items: pulled no further ahead of the answers than `window`, in a thread or task of its own.
            window: items under way at once; default as the client's options say.
            timeout_s: deadline of the whole stream; default a day.
        """

        def make(_: str, item: NewItem) -> codec_pb2.AppendItemsRequest:
            return codec_pb2.AppendItemsRequest(id=item.item_id, dataset=dataset, item=item.to_proto())

        travel = Travel.of(self._funnel.options, window, timeout_s)
        requests = tag_frames(items, make)
        async with aclosing(
            answer_frames(self._stub.AppendItems, requests, AppendedItem.from_proto, travel)
        ) as answers:
            async for answer in answers:
                yield answer

    async def read_items(
        self,
        items: ItemsLike,
        *,
        metadata_only: bool = False,
        with_masks: bool = False,
        storage_order: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[ReadItem, None]:
        """Reads items lazily, in the order of their identifiers; a damaged one carries its error.

        A connection that breaks is made again and the items go on where they stopped, none twice and none missing; one
        that was appended meanwhile may come out of order. Only prepared pixels of "the newest" encoding are not read
        on, because a newer one may have come: the break is raised, unless nothing had been read.

        Args:
            items: a filter, or a data set's name for all of it.
            metadata_only: leave out the pixels.
            with_masks: send the masks and trimaps of those that have one, too.
            storage_order: in the order in which they are stored, which is the fastest for many.
            timeout_s: deadline of the whole stream; default an hour.
        """
        request = codec_pb2.ReadItemsRequest(
            items=to_item_filter(items),
            metadata_only=metadata_only,
            with_masks=with_masks,
            storage_order=storage_order,
        )
        is_fixed = request.items.form != types_pb2.ITEM_FORM_PREPARED or bool(request.items.encoding_id)
        identify = _identify if is_fixed else None
        async with aclosing(self._funnel.read(self._stub.ReadItems, request, timeout_s, identify)) as responses:
            async for response in responses:
                yield ReadItem.from_proto(response)

    async def get_item(self, dataset: str, item_id: str, *, timeout_s: float | None = None) -> Item:
        """Describes an item, without its pixels.

        Raises:
            NotFound: there is no such data set or item.
        """
        request = codec_pb2.GetItemRequest(dataset=dataset, item_id=item_id)
        return Item.from_proto((await self._funnel.unary(self._stub.GetItem, request, timeout_s)).item)

    async def update_item(  # noqa: PLR0913 -- what an item has, by name
        self,
        dataset: str,
        item_id: str,
        *,
        labels: Sequence[str] | None = None,
        group: str | None = None,
        split: str | None = None,
        annotations: Sequence[Annotation] | None = None,
        mask: Array | None = None,
        trimap: Array | None = None,
        clear_mask: bool = False,
        etag: str = "",
        timeout_s: float | None = None,
    ) -> Item:
        """Changes what is given of an item and leaves the rest; returns it as it is now.

        Args:
            dataset: name.
            item_id: which.
            labels: the main one first.
            group: part, author or day.
            split: such as "train".
            annotations: boxes.
            mask: (h, w) bool, of the image's size: which pixels the main label is about. An item has a mask or a
                trimap: each takes the other's place.
            trimap: (h, w) uint8 of the values of `Trimap`, of the image's size: the same of some pixels. One that knows
                all of them is a mask.
            clear_mask: the item is to have neither.
            etag: what the item's must still be.
            timeout_s: deadline.

        Raises:
            Conflict: `etag` is given and somebody else has changed the item since.
            NotFound: there is no such data set or item.
            InvalidArgument: of another size than the image's, or a trimap that knows nothing.
            ValueError: more than one of `mask`, `trimap` and `clear_mask`, or an array that is none.
        """
        if (mask is not None) + (trimap is not None) + clear_mask > 1:
            raise ValueError("an item has a mask, a trimap or neither: give one of mask, trimap and clear_mask")
        given = {"labels": labels, "group": group, "split": split, "annotations": annotations}
        changed = [name for name, value in given.items() if value is not None]
        changed += ["mask"] if clear_mask or mask is not None or trimap is not None else []
        item = codec_pb2.Item(
            item_id=item_id,
            labels=labels,
            group=group or "",
            split=split or "",
            annotations=None if annotations is None else [annotation.to_proto() for annotation in annotations],
            etag=etag,
            mask=None if mask is None else await wire.run_blocking(to_mask, mask),
            trimap=None if trimap is None else await wire.run_blocking(to_trimap, trimap),
        )
        request = codec_pb2.UpdateItemRequest(dataset=dataset, item=item)
        request.update_mask.paths.extend(changed)
        return Item.from_proto((await self._funnel.unary(self._stub.UpdateItem, request, timeout_s)).item)

    async def encode_dataset(
        self, dataset: str, *, options: EncodingOptions = DEFAULT_ENCODING, timeout_s: float | None = None
    ) -> AsyncOperation[EncodedDataset]:
        """Makes the prepared version of a data set: background removed, aligned, blanked, HEVC."""
        request = codec_pb2.EncodeDatasetRequest(dataset=dataset, options=options.to_proto())
        record = await self._funnel.start(self._stub.EncodeDataset, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def preview_encoding(
        self,
        dataset: str,
        item_ids: Sequence[str],
        crf: int,
        *,
        encoding_id: str = "",
        timeout_s: float | None = None,
    ) -> AsyncGenerator[PreviewedItem, None]:
        """Prepared pixels as another rate factor would leave them; nothing is kept.

        Args:
            dataset: name.
            item_ids: 1 to 512 items of the encoding; they come in the order in which they are encoded.
            crf: HEVC rate factor, 0 (largest) to 51 (smallest).
            encoding_id: by which they are prepared; default the newest.
            timeout_s: deadline of the whole stream; default an hour.
        """
        request = codec_pb2.PreviewEncodingRequest(dataset=dataset, encoding_id=encoding_id, item_ids=item_ids, crf=crf)
        async with aclosing(self._funnel.read(self._stub.PreviewEncoding, request, timeout_s)) as responses:
            async for response in responses:
                yield PreviewedItem.from_proto(response)

    async def compact_dataset(self, dataset: str, *, timeout_s: float | None = None) -> AsyncOperation[Compaction]:
        """Writes the exact pixels that were appended anew, alike ones next to each other, as small as they get."""
        request = codec_pb2.CompactDatasetRequest(dataset=dataset)
        record = await self._funnel.start(self._stub.CompactDataset, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def verify_dataset(self, dataset: str, *, timeout_s: float | None = None) -> AsyncOperation[Verification]:
        """Reads everything of a data set and says what is damaged; mends lists from their copies."""
        request = codec_pb2.VerifyDatasetRequest(dataset=dataset)
        record = await self._funnel.start(self._stub.VerifyDataset, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def prepare_image(
        self,
        dataset: str,
        image: ImageLike,
        *,
        encoding_id: str = "",
        category: str = "",
        timeout_s: float | None = None,
    ) -> PreparedImage:
        """Prepares an image as the items of an encoding (default the newest) were: same reference, same mask.

        Args:
            dataset: name.
            image: to prepare.
            encoding_id: which encoding.
            category: of the encoding; default the one that the image aligns to best.
            timeout_s: deadline.
        """
        sent = await wire.run_blocking(to_image, image)
        request = codec_pb2.PrepareImageRequest(dataset=dataset, encoding_id=encoding_id, image=sent, category=category)
        return PreparedImage.from_proto(await self._funnel.unary(self._stub.PrepareImage, request, timeout_s))

    async def prepare_images(
        self,
        dataset: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        *,
        encoding_id: str = "",
        category: str = "",
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[PreparedImage], None]:
        """`prepare_image` for a stream: one answer an image, in order; one bad image answers its own error."""

        def make(tag: str, image: ImageLike) -> codec_pb2.PrepareImagesRequest:
            request = codec_pb2.PrepareImageRequest(
                dataset=dataset, encoding_id=encoding_id, image=to_image(image), category=category
            )
            return codec_pb2.PrepareImagesRequest(id=tag, request=request)

        def convert(answer: codec_pb2.PrepareImagesResponse) -> PreparedImage:
            return PreparedImage.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.PrepareImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer


def _identify(response: codec_pb2.ReadItemsResponse) -> str:
    return response.item.item_id
