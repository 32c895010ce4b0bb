"""Segmenters of saliency: which pixels of an image show what?"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mekiki._async.detection import AsyncDetection
from mekiki._async.operation import AsyncOperation
from mekiki._async.streams import Travel, answer_frames, tag_frames
from mekiki._values.dataset import ItemsLike, to_item_filter
from mekiki._values.frame import Answer, Frame
from mekiki._values.image import ImageLike, MaskFormat, to_image
from mekiki._values.segmentation import Segmentation, SegmentationEngine, SegmentationLoss, Segmenter
from mekiki._values.word import number_of
from mekiki._wire import asynchronous as wire
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2

PAGE_SIZE = 1000


class AsyncSegmentation(AsyncDetection):
    """Segmenters: trained from labels alone, asked which pixels show what. Object detectors: trained on boxes."""

    async def train_segmenter(  # noqa: PLR0913 -- the fields of the request, each with the service's default
        self,
        segmenter: str,
        items: ItemsLike,
        *,
        normal_labels: Sequence[str] = (),
        use_masks: bool = False,
        engine: SegmentationEngine | None = None,
        backbone: str = "",
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        input_size: int | None = None,
        present_decay: float | None = None,
        absent_decay: float | None = None,
        background_decay: float | None = None,
        left_out_losses: Sequence[SegmentationLoss] = (),
        seed: int = 0,
        go_on: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncOperation[Segmenter]:
        """Trains a segmenter on the labels of items; a name that exists gets a new version.

        Args:
            segmenter: its name.
            items: all labels of an item count as present. Two kinds at least: two labels, or one and normal. Original
                pixels.
            normal_labels: of items that show nothing of interest, such as "good"; they teach the background.
            use_masks: learn from the masks and trimaps that items have, too: they tell where the first label of an item
                is. What a trimap does not know is left to the engine.
            engine: how it learns; None for REFINED, or what the training goes on from.
            backbone: of timm, with maps of stride 8, 16 and 32, or "small"; default "mobilenetv2_100".
            epochs: rounds over the items, 1 to 500; default 12, or of few items as many as 500 steps take.
            learning_rate: of what starts from nothing; default 0.002, of SEC 0.001.
            batch_size: pictures a step, 1 to 64; default 8.
            input_size: side of the square an image is resized to, pixels, a multiple of 32; default 320.
            present_decay: of rank pooling for what an image shows, 0 to 1; the larger the objects, the larger; .996.
            absent_decay: likewise for what it does not show; default 0.
            background_decay: likewise for the background; default 0.999.
            left_out_losses: to do without, two at most.
            seed: of what starts from nothing, of order and mirroring.
            go_on: from the newest version instead of beginning anew: it says where items show their labels, masks
                overrule it, and its network learns on. Engine, backbone and input size are that version's.
            timeout_s: deadline of starting it.
        """
        request = saliency_pb2.TrainSegmenterRequest(
            segmenter=segmenter,
            items=to_item_filter(items),
            normal_labels=normal_labels,
            use_masks=use_masks,
            engine=number_of(saliency_pb2.SegmentationEngine, engine or ""),
            backbone=backbone,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            input_size=input_size,
            present_decay=present_decay,
            absent_decay=absent_decay,
            background_decay=background_decay,
            left_out_losses=[number_of(saliency_pb2.SegmentationLoss, loss) for loss in left_out_losses],
            seed=seed,
            go_on=go_on,
        )
        record = await self._funnel.start(self._stub.TrainSegmenter, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def get_segmenter(self, segmenter: str, *, timeout_s: float | None = None) -> Segmenter:
        """Describes the version of a segmenter that serves.

        Raises:
            NotFound: there is none of that name.
        """
        request = saliency_pb2.GetSegmenterRequest(segmenter=segmenter)
        response = await self._funnel.unary(self._stub.GetSegmenter, request, timeout_s)
        return Segmenter.from_proto(response.segmenter)

    async def list_segmenters(self, *, timeout_s: float | None = None) -> tuple[Segmenter, ...]:
        """All segmenters, by name; `timeout_s` is for each page of 1000."""
        segmenters: list[Segmenter] = []
        request = saliency_pb2.ListSegmentersRequest(page_size=PAGE_SIZE)
        while True:
            response = await self._funnel.unary(self._stub.ListSegmenters, request, timeout_s)
            segmenters += map(Segmenter.from_proto, response.segmenters)
            if not response.next_page_token:
                return tuple(segmenters)
            request.page_token = response.next_page_token

    async def delete_segmenter(self, segmenter: str, *, timeout_s: float | None = None) -> None:
        """Deletes a segmenter with all its versions.

        Raises:
            NotFound: there is none of that name.
        """
        request = saliency_pb2.DeleteSegmenterRequest(segmenter=segmenter)
        await self._funnel.unary(self._stub.DeleteSegmenter, request, timeout_s)

    async def segment_image(
        self,
        segmenter: str,
        image: ImageLike,
        *,
        refine: bool = False,
        mask_format: MaskFormat = MaskFormat.RLE,
        pixel_size_mm: float | None = None,
        timeout_s: float | None = None,
    ) -> Segmentation:
        """Says which pixels of an image show what.

        Args:
            segmenter: its name.
            image: the image.
            refine: bring the outlines to the image's edges, by a fully connected CRF; it takes seconds.
            mask_format: how masks travel.
            pixel_size_mm: side of a pixel, millimetres, for areas in square millimetres.
            timeout_s: deadline; default 120 s.
        """
        request = saliency_pb2.SegmentImageRequest(
            segmenter=segmenter,
            image=await wire.run_blocking(to_image, image),
            refine=refine,
            mask_format=number_of(types_pb2.MaskFormat, mask_format),
            pixel_size_mm=pixel_size_mm,
        )
        return Segmentation.from_proto(await self._funnel.unary(self._stub.SegmentImage, request, timeout_s))

    async def segment_images(
        self,
        segmenter: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        *,
        refine: bool = False,
        mask_format: MaskFormat = MaskFormat.RLE,
        pixel_size_mm: float | None = None,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[Segmentation], None]:
        """`segment_image` for a stream: one answer an image, in order; one bad image answers its own error."""

        def make(tag: str, image: ImageLike) -> saliency_pb2.SegmentImagesRequest:
            request = saliency_pb2.SegmentImageRequest(
                segmenter=segmenter,
                image=to_image(image),
                refine=refine,
                mask_format=number_of(types_pb2.MaskFormat, mask_format),
                pixel_size_mm=pixel_size_mm,
            )
            return saliency_pb2.SegmentImagesRequest(id=tag, request=request)

        def convert(answer: saliency_pb2.SegmentImagesResponse) -> Segmentation:
            return Segmentation.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.SegmentImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer
