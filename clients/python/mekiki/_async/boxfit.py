"""Boxfit: which box holds it?"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from google.longrunning import operations_pb2_grpc

from mekiki._async.funnel import Funnel
from mekiki._async.operation import AsyncOperation
from mekiki._async.streams import Travel, answer_frames, tag_frames
from mekiki._values.boxfit import (
    DEFAULT_FIT,
    AnnotatedDataset,
    AnnotatedImage,
    BoxFit,
    FitMethod,
    FitOptions,
    ForegroundUse,
    MapLike,
    to_fit_request,
)
from mekiki._values.calibration import BoxCalibration, CalibratedBoxes, ExplainOptions
from mekiki._values.dataset import ItemsLike, to_item_filter
from mekiki._values.frame import Answer, Frame
from mekiki._values.image import ImageLike, to_image
from mekiki._values.word import number_of
from mekiki._wire import asynchronous as wire
from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc


class AsyncBoxfit:
    """Boxes: the one with the highest IoU against a map, and boxes on images from labels alone."""

    def __init__(self, channel: wire.Channel, funnel: Funnel) -> None:
        self._funnel = funnel
        self._stub = boxfit_pb2_grpc.BoxfitServiceStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)

    async def fit_box(
        self, map_: MapLike, *, options: FitOptions = DEFAULT_FIT, timeout_s: float | None = None
    ) -> BoxFit:
        """Fits one box to a binary map, (h, w) bool, or to a soft one, (h, w) of floats or a Heatmap.

        Raises:
            InvalidArgument: the map is empty.
        """
        request = await wire.run_blocking(to_fit_request, map_, options)
        return BoxFit.from_proto(await self._funnel.unary(self._stub.FitBox, request, timeout_s))

    async def fit_boxes(
        self,
        maps: wire.Input[MapLike | Frame[MapLike]],
        *,
        options: FitOptions = DEFAULT_FIT,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[BoxFit], None]:
        """`fit_box` for a stream: one answer a map, in order; one bad map answers its own error."""

        def make(tag: str, map_: MapLike) -> boxfit_pb2.FitBoxesRequest:
            return boxfit_pb2.FitBoxesRequest(id=tag, request=to_fit_request(map_, options))

        def convert(answer: boxfit_pb2.FitBoxesResponse) -> BoxFit:
            return BoxFit.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(answer_frames(self._stub.FitBoxes, tag_frames(maps, make), convert, travel)) as answers:
            async for answer in answers:
                yield answer

    async def annotate_image(  # noqa: PLR0913 -- the fields of the request, each with the service's default
        self,
        classifier: str,
        image: ImageLike,
        *,
        label: str = "",
        options: FitOptions = DEFAULT_FIT,
        review_below: float | None = None,
        explain: ExplainOptions | None = None,
        calibration: BoxCalibration | None = None,
        foreground: ForegroundUse | None = None,
        timeout_s: float | None = None,
    ) -> AnnotatedImage:
        """Explains an image with a classifier and fits a box to the explanation.

        Args:
            classifier: a trained classifier of saliency.
            image: the image.
            label: what to look for; default the classifier's first choice.
            options: how to search.
            review_below: a proposal whose score is below this is marked for a person, 0 to 1; default 0.5.
            explain: how images are explained; not together with a calibration.
            calibration: what people's boxes taught; stands in for the options' method and threshold.
            foreground: whether a box ends where what stands out from the image's rim does; default where the ground
                is plain. Not together with a calibration, which says so itself.
            timeout_s: deadline; default 120 s.
        """
        request = boxfit_pb2.AnnotateImageRequest(
            classifier=classifier,
            image=await wire.run_blocking(to_image, image),
            label=label,
            options=options.to_proto(),
            review_below=review_below,
            explain=explain.to_proto() if explain else None,
            calibration=calibration.to_proto() if calibration else None,
            foreground=number_of(boxfit_pb2.ForegroundUse, foreground or ""),
        )
        return AnnotatedImage.from_proto(await self._funnel.unary(self._stub.AnnotateImage, request, timeout_s))

    async def annotate_images(  # noqa: PLR0913 -- the fields of the request, each with the service's default
        self,
        classifier: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        *,
        label: str = "",
        options: FitOptions = DEFAULT_FIT,
        review_below: float | None = None,
        explain: ExplainOptions | None = None,
        calibration: BoxCalibration | None = None,
        foreground: ForegroundUse | None = None,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[AnnotatedImage], None]:
        """`annotate_image` for a stream: one answer an image, in order; one bad image answers its own error."""

        def make(tag: str, image: ImageLike) -> boxfit_pb2.AnnotateImagesRequest:
            request = boxfit_pb2.AnnotateImageRequest(
                classifier=classifier,
                image=to_image(image),
                label=label,
                options=options.to_proto(),
                review_below=review_below,
                explain=explain.to_proto() if explain else None,
                calibration=calibration.to_proto() if calibration else None,
                foreground=number_of(boxfit_pb2.ForegroundUse, foreground or ""),
            )
            return boxfit_pb2.AnnotateImagesRequest(id=tag, request=request)

        def convert(answer: boxfit_pb2.AnnotateImagesResponse) -> AnnotatedImage:
            return AnnotatedImage.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.AnnotateImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer

    async def annotate_dataset(  # noqa: PLR0913 -- the fields of the request, each with the service's default
        self,
        classifier: str,
        items: ItemsLike,
        *,
        use_item_labels: bool = False,
        skip_labels: Sequence[str] = (),
        options: FitOptions = DEFAULT_FIT,
        review_below: float | None = None,
        explain: ExplainOptions | None = None,
        calibration: BoxCalibration | None = None,
        foreground: ForegroundUse | None = None,
        segmenter: str = "",
        timeout_s: float | None = None,
    ) -> AsyncOperation[AnnotatedDataset]:
        """Annotates the items of a data set and writes the boxes to them.

        Args:
            classifier: a trained classifier of saliency; "" where a segmenter is named.
            items: which items; always their original pixels.
            use_item_labels: look for each item's first label, not for the model's first choice.
            skip_labels: items with one of these labels get no box (an empty scene, for instance).
            options: how to search.
            review_below: a proposal whose score is below this is marked for a person, 0 to 1; default 0.5.
            explain: how images are explained; not together with a calibration.
            calibration: what people's boxes taught; stands in for the options' method and threshold.
            foreground: as in `annotate_image`.
            segmenter: a trained segmenter, whose masks stand in for heat maps; without explain, calibration and
                foreground.
            timeout_s: deadline of starting it.
        """
        request = boxfit_pb2.AnnotateDatasetRequest(
            classifier=classifier,
            items=to_item_filter(items),
            use_item_labels=use_item_labels,
            skip_labels=skip_labels,
            options=options.to_proto(),
            review_below=review_below,
            explain=explain.to_proto() if explain else None,
            calibration=calibration.to_proto() if calibration else None,
            foreground=number_of(boxfit_pb2.ForegroundUse, foreground or ""),
            segmenter=segmenter,
        )
        record = await self._funnel.start(self._stub.AnnotateDataset, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def calibrate_boxes(
        self,
        classifier: str,
        items: ItemsLike,
        *,
        method: FitMethod = FitMethod.EXACT,
        explain: ExplainOptions | None = None,
        timeout_s: float | None = None,
    ) -> AsyncOperation[CalibratedBoxes]:
        """Learns threshold, growth and confidence from the boxes that people accepted, five of a label or more.

        Nothing is kept: pass the calibration that comes back to `annotate_image` and `annotate_dataset`.

        Args:
            classifier: a trained classifier of saliency.
            items: those count that carry a box that a person accepted or rejected, at most 2000.
            method: how boxes are searched: exact, soft or tight.
            explain: how images are explained.
            timeout_s: deadline of starting it.
        """
        request = boxfit_pb2.CalibrateBoxesRequest(
            classifier=classifier,
            items=to_item_filter(items),
            method=number_of(boxfit_pb2.FitMethod, method),
            explain=explain.to_proto() if explain else None,
        )
        record = await self._funnel.start(self._stub.CalibrateBoxes, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)
