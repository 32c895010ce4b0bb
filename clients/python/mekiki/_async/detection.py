"""Object detectors of saliency: which objects are in an image, and where?"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from google.longrunning import operations_pb2_grpc

from mekiki._async.funnel import Funnel
from mekiki._async.operation import AsyncOperation
from mekiki._async.streams import Travel, answer_frames, tag_frames
from mekiki._values.dataset import ItemsLike, to_item_filter
from mekiki._values.detection import Detection, ObjectDetector
from mekiki._values.frame import Answer, Frame
from mekiki._values.image import ImageLike, to_image
from mekiki._wire import asynchronous as wire
from mekiki.saliency.v1 import saliency_pb2, saliency_pb2_grpc

PAGE_SIZE = 1000


class AsyncDetection:
    """Object detectors: trained on boxes, asked what is where."""

    def __init__(self, channel: wire.Channel, funnel: Funnel) -> None:
        self._funnel = funnel
        self._stub = saliency_pb2_grpc.SaliencyServiceStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)

    async def train_object_detector(  # noqa: PLR0913 -- the fields of the request, each with the service's default
        self,
        object_detector: str,
        items: ItemsLike,
        *,
        include_proposed: bool = False,
        backbone: str = "",
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        input_size: int | None = None,
        validation_fraction: float | None = None,
        scene_share: float | None = None,
        upright: bool = False,
        seed: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncOperation[ObjectDetector]:
        """Trains an object detector on the boxes of items; a name that exists gets a new version.

        Args:
            object_detector: its name.
            items: two with boxes at least; one without any annotation shows what is no object. Original pixels.
            include_proposed: train on proposed boxes too, not only on accepted ones.
            backbone: of timm, with maps of stride 8, 16 and 32, or "small"; default "mobilenetv2_100".
            epochs: rounds over the items, 1 to 500; default as many as show it 4,000 pictures, 4 to 100.
            learning_rate: of what starts from nothing; default 0.001.
            batch_size: pictures a step, 1 to 64; default 8.
            input_size: side of the square an image is fitted into, pixels, a multiple of 32; default 320.
            validation_fraction: share held out to choose the epoch, 0.05 to 0.5; default 0.2.
            scene_share: share of the training pictures composed of several items, 0 to 1; default 0.7.
            upright: objects keep their orientation: neither turned nor mirrored ones are trained on.
            seed: of split, pictures and order.
            timeout_s: deadline of starting it.
        """
        request = saliency_pb2.TrainObjectDetectorRequest(
            object_detector=object_detector,
            items=to_item_filter(items),
            include_proposed=include_proposed,
            backbone=backbone,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            input_size=input_size,
            validation_fraction=validation_fraction,
            scene_share=scene_share,
            upright=upright,
            seed=seed,
        )
        record = await self._funnel.start(self._stub.TrainObjectDetector, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def get_object_detector(self, object_detector: str, *, timeout_s: float | None = None) -> ObjectDetector:
        """Describes the version of an object detector that serves.

        Raises:
            NotFound: there is none of that name.
        """
        request = saliency_pb2.GetObjectDetectorRequest(object_detector=object_detector)
        response = await self._funnel.unary(self._stub.GetObjectDetector, request, timeout_s)
        return ObjectDetector.from_proto(response.object_detector)

    async def list_object_detectors(self, *, timeout_s: float | None = None) -> tuple[ObjectDetector, ...]:
        """All object detectors, by name; `timeout_s` is for each page of 1000."""
        detectors: list[ObjectDetector] = []
        request = saliency_pb2.ListObjectDetectorsRequest(page_size=PAGE_SIZE)
        while True:
            response = await self._funnel.unary(self._stub.ListObjectDetectors, request, timeout_s)
            detectors += map(ObjectDetector.from_proto, response.object_detectors)
            if not response.next_page_token:
                return tuple(detectors)
            request.page_token = response.next_page_token

    async def delete_object_detector(self, object_detector: str, *, timeout_s: float | None = None) -> None:
        """Deletes an object detector with all its versions.

        Raises:
            NotFound: there is none of that name.
        """
        request = saliency_pb2.DeleteObjectDetectorRequest(object_detector=object_detector)
        await self._funnel.unary(self._stub.DeleteObjectDetector, request, timeout_s)

    async def detect_objects(
        self,
        object_detector: str,
        image: ImageLike,
        *,
        min_score: float | None = None,
        max_objects: int | None = None,
        timeout_s: float | None = None,
    ) -> Detection:
        """Finds the objects in an image.

        Args:
            object_detector: its name.
            image: the image.
            min_score: least score of an object, 0.01 to 1; default 0.3.
            max_objects: most objects, the surest, 1 to 300; default 100.
            timeout_s: deadline; default 60 s.
        """
        request = saliency_pb2.DetectObjectsRequest(
            object_detector=object_detector,
            image=await wire.run_blocking(to_image, image),
            min_score=min_score,
            max_objects=max_objects,
        )
        return Detection.from_proto(await self._funnel.unary(self._stub.DetectObjects, request, timeout_s))

    async def detect_objects_in_images(
        self,
        object_detector: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        *,
        min_score: float | None = None,
        max_objects: int | None = None,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[Detection], None]:
        """`detect_objects` for a stream: one answer an image, in order; one bad image answers its own error."""

        def make(tag: str, image: ImageLike) -> saliency_pb2.DetectObjectsInImagesRequest:
            request = saliency_pb2.DetectObjectsRequest(
                object_detector=object_detector, image=to_image(image), min_score=min_score, max_objects=max_objects
            )
            return saliency_pb2.DetectObjectsInImagesRequest(id=tag, request=request)

        def convert(answer: saliency_pb2.DetectObjectsInImagesResponse) -> Detection:
            return Detection.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.DetectObjectsInImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer
