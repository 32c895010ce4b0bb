"""Saliency's RPCs: each is answered at the desk of its kind of model."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

import mekiki
from mekiki.saliency.v1 import saliency_pb2, saliency_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.runtime.chore import Chore
from services.runtime.errors import NotFound
from services.runtime.images import ImageReader, Pixels, filter_one
from services.runtime.neighbours import neighbour_options
from services.runtime.operations import Operations, open_operations
from services.runtime.server import Service
from services.runtime.store import Store
from services.runtime.streams import answer_frames
from services.runtime.sweep import open_sweeper
from services.saliency.catalogue import Catalogue
from services.saliency.config import SaliencySettings
from services.saliency.desk import ClassifierDesk
from services.saliency.detection.catalogue import open_catalogue as open_object_detectors
from services.saliency.detection.desk import DetectionDesk
from services.saliency.litter import list_grounds
from services.saliency.model import choose_device
from services.saliency.segmentation.catalogue import open_catalogue as open_segmenters
from services.saliency.segmentation.desk import SegmentationDesk

SERVICE = "saliency"

Context = grpc.aio.ServicerContext[Message, Message]


class SaliencyServicer(saliency_pb2_grpc.SaliencyServiceServicer):
    """Answers SaliencyService.

    Args:
        settings: of the service.
        store: its own part of the store.
        operations: where long work is started.
        codec: the service next door.
        sweeper: deletes what nobody refers to.
    """

    def __init__(
        self,
        settings: SaliencySettings,
        store: Store,
        operations: Operations,
        codec: mekiki.AsyncClient,
        sweeper: Chore,
    ) -> None:
        self._window = settings.stream_window
        self._sweeper = sweeper
        self._codec = codec
        reader = ImageReader(settings.max_pixels, self._fetch_item)
        device = choose_device(settings.device)
        thread = ThreadPoolExecutor(1, thread_name_prefix=SERVICE)
        common = operations, reader, device, thread
        self._classifiers = ClassifierDesk(settings, Catalogue.open(store), *common)
        self._object_detectors = DetectionDesk(settings, open_object_detectors(store), *common)
        self._segmenters = SegmentationDesk(settings, open_segmenters(store), *common)

    async def TrainClassifier(  # noqa: N802 - the contract's name
        self, request: saliency_pb2.TrainClassifierRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        return await self._classifiers.train(request)

    async def GetClassifier(  # noqa: N802
        self, request: saliency_pb2.GetClassifierRequest, _: Context
    ) -> saliency_pb2.GetClassifierResponse:
        """Describes the newest version."""
        return await self._classifiers.get(request)

    async def ListClassifiers(  # noqa: N802
        self, request: saliency_pb2.ListClassifiersRequest, _: Context
    ) -> saliency_pb2.ListClassifiersResponse:
        """Lists the newest version of every classifier."""
        return await self._classifiers.list(request)

    async def DeleteClassifier(  # noqa: N802
        self, request: saliency_pb2.DeleteClassifierRequest, _: Context
    ) -> saliency_pb2.DeleteClassifierResponse:
        """Deletes all versions."""
        return await self._classifiers.delete(request)

    async def ClassifyImage(  # noqa: N802
        self, request: saliency_pb2.ClassifyImageRequest, _: Context
    ) -> saliency_pb2.ClassifyImageResponse:
        """Classifies one image."""
        return await self._classifiers.classify(request)

    async def ClassifyImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.ClassifyImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.ClassifyImagesResponse]:
        """Classifies one image a frame."""
        answer, response = self._classifiers.classify, saliency_pb2.ClassifyImagesResponse
        async for each in answer_frames(request_iterator, answer, response, self._window):
            yield each

    async def ExplainImage(  # noqa: N802
        self, request: saliency_pb2.ExplainImageRequest, _: Context
    ) -> saliency_pb2.ExplainImageResponse:
        """Explains one image."""
        return await self._classifiers.explain(request)

    async def ExplainImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.ExplainImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.ExplainImagesResponse]:
        """Explains one image a frame."""
        answer, response = self._classifiers.explain, saliency_pb2.ExplainImagesResponse
        async for each in answer_frames(request_iterator, answer, response, self._window):
            yield each

    async def FilterImage(  # noqa: N802
        self, request: saliency_pb2.FilterImageRequest, _: Context
    ) -> saliency_pb2.FilterImageResponse:
        """Filters one image."""
        return await self._classifiers.filter(request)

    async def FilterImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.FilterImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.FilterImagesResponse]:
        """Filters one image a frame."""
        answer, response = self._classifiers.filter, saliency_pb2.FilterImagesResponse
        async for each in answer_frames(request_iterator, answer, response, self._window):
            yield each

    async def TrainObjectDetector(  # noqa: N802
        self, request: saliency_pb2.TrainObjectDetectorRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        return await self._object_detectors.train(request)

    async def GetObjectDetector(  # noqa: N802
        self, request: saliency_pb2.GetObjectDetectorRequest, _: Context
    ) -> saliency_pb2.GetObjectDetectorResponse:
        """Describes the newest version."""
        return await self._object_detectors.get(request)

    async def ListObjectDetectors(  # noqa: N802
        self, request: saliency_pb2.ListObjectDetectorsRequest, _: Context
    ) -> saliency_pb2.ListObjectDetectorsResponse:
        """Lists the newest version of every object detector."""
        return await self._object_detectors.list(request)

    async def DeleteObjectDetector(  # noqa: N802
        self, request: saliency_pb2.DeleteObjectDetectorRequest, _: Context
    ) -> saliency_pb2.DeleteObjectDetectorResponse:
        """Deletes all versions."""
        return await self._object_detectors.delete(request)

    async def DetectObjects(  # noqa: N802
        self, request: saliency_pb2.DetectObjectsRequest, _: Context
    ) -> saliency_pb2.DetectObjectsResponse:
        """Finds the objects in one image."""
        return await self._object_detectors.detect(request)

    async def DetectObjectsInImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.DetectObjectsInImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.DetectObjectsInImagesResponse]:
        """Finds the objects in one image a frame."""
        answer, response = self._object_detectors.detect, saliency_pb2.DetectObjectsInImagesResponse
        async for each in answer_frames(request_iterator, answer, response, self._window):
            yield each

    async def TrainSegmenter(  # noqa: N802
        self, request: saliency_pb2.TrainSegmenterRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        return await self._segmenters.train(request)

    async def GetSegmenter(  # noqa: N802
        self, request: saliency_pb2.GetSegmenterRequest, _: Context
    ) -> saliency_pb2.GetSegmenterResponse:
        """Describes the newest version."""
        return await self._segmenters.get(request)

    async def ListSegmenters(  # noqa: N802
        self, request: saliency_pb2.ListSegmentersRequest, _: Context
    ) -> saliency_pb2.ListSegmentersResponse:
        """Lists the newest version of every segmenter."""
        return await self._segmenters.list(request)

    async def DeleteSegmenter(  # noqa: N802
        self, request: saliency_pb2.DeleteSegmenterRequest, _: Context
    ) -> saliency_pb2.DeleteSegmenterResponse:
        """Deletes all versions."""
        return await self._segmenters.delete(request)

    async def SegmentImage(  # noqa: N802
        self, request: saliency_pb2.SegmentImageRequest, _: Context
    ) -> saliency_pb2.SegmentImageResponse:
        """Segments one image."""
        return await self._segmenters.segment(request)

    async def SegmentImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.SegmentImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.SegmentImagesResponse]:
        """Segments one image a frame."""
        answer, response = self._segmenters.segment, saliency_pb2.SegmentImagesResponse
        async for each in answer_frames(request_iterator, answer, response, self._window):
            yield each

    async def start(self) -> None:
        """Starts what works beside the calls."""
        self._sweeper.start()

    async def close(self) -> None:
        """Ends what was started."""
        self._sweeper.close()
        for desk in (self._classifiers, self._object_detectors, self._segmenters):
            await desk.close()
        await self._codec.close()

    async def _fetch_item(self, item: types_pb2.ItemRef) -> Pixels:
        async for read in self._codec.codec.read_items(filter_one(item)):
            return read.pixels
        raise NotFound("item", f"{item.dataset}/{item.item_id}")


def open_service(settings: SaliencySettings) -> Service:
    """Open the service inside the running loop."""
    store = Store.open(settings.store_url).prefixed(SERVICE)
    operations = open_operations(SERVICE, store, settings)
    codec = mekiki.AsyncClient(settings.codec_address, options=neighbour_options(settings))
    sweeper = open_sweeper(lambda: list_grounds(store), settings.sweep_grace_s, settings.sweep_every_s)
    servicer = SaliencyServicer(settings, store, operations, codec, sweeper)
    return Service(
        name=SERVICE,
        descriptor=saliency_pb2.DESCRIPTOR.services_by_name["SaliencyService"],
        servicer=servicer,
        add_to_server=saliency_pb2_grpc.add_SaliencyServiceServicer_to_server,
        operations=operations,
        start=servicer.start,
        close=servicer.close,
    )
