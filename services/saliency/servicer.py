"""Saliency's RPCs: convert, delegate, convert."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

import mekiki
from mekiki.saliency.v1 import saliency_pb2, saliency_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.runtime.batcher import Batcher
from services.runtime.chore import Chore
from services.runtime.errors import InvalidArgument, NotFound
from services.runtime.images import ImageReader, Pixels, filter_one
from services.runtime.neighbours import neighbour_options
from services.runtime.operations import Operations, open_operations
from services.runtime.server import Service
from services.runtime.store import Store
from services.runtime.streams import answer_frames
from services.runtime.sweep import open_sweeper
from services.runtime.tenants import list_visible
from services.saliency import figures, messages
from services.saliency.batches import Asked, classify_batch, explain_batch, sight_batch
from services.saliency.catalogue import About, Catalogue
from services.saliency.config import SaliencySettings
from services.saliency.detection.catalogue import Catalogue as ObjectDetectors
from services.saliency.detection.catalogue import open_catalogue
from services.saliency.detection.desk import DetectionDesk
from services.saliency.litter import list_grounds
from services.saliency.model import Classifier, Explanation, Prediction, Question, choose_device, fit_heatmap
from services.saliency.shelf import Shelf
from services.saliency.triage import Sighting

SERVICE = "saliency"
ENVELOPE_BYTES = 1 << 16  # what an answer holds besides its heat map, generously
PLAIN = Question()

Context = grpc.aio.ServicerContext[Message, Message]


class SaliencyServicer(saliency_pb2_grpc.SaliencyServiceServicer):
    """Answers SaliencyService."""

    def __init__(
        self,
        settings: SaliencySettings,
        catalogue: Catalogue,
        object_detectors: ObjectDetectors,
        operations: Operations,
        codec: mekiki.AsyncClient,
        sweeper: Chore,
    ) -> None:
        self._settings = settings
        self._sweeper = sweeper
        self._catalogue = catalogue
        self._operations = operations
        self._codec = codec
        self._reader = ImageReader(settings.max_pixels, self._fetch_item)
        device = choose_device(settings.device)
        self._shelf: Shelf[About, Classifier] = Shelf(
            catalogue, lambda data: Classifier.load(data, device), settings.loaded_classifiers
        )
        thread = ThreadPoolExecutor(1, thread_name_prefix=SERVICE)
        self._classifying: Batcher[Asked, Prediction] = Batcher(
            "saliency.classify",
            classify_batch,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            queue_limit=settings.queue_limit,
            executor=thread,
        )
        self._sighting: Batcher[Asked, Sighting] = Batcher(
            "saliency.filter",
            sight_batch,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            queue_limit=settings.queue_limit,
            executor=thread,
        )
        self._explaining: Batcher[Asked, Explanation] = Batcher(
            "saliency.explain",
            explain_batch,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            queue_limit=settings.queue_limit,
            executor=thread,
        )

        self._desk = DetectionDesk(settings, object_detectors, operations, self._reader, device, thread)

    async def TrainClassifier(  # noqa: N802 - the contract's name
        self, request: saliency_pb2.TrainClassifierRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        name = messages.read_name(request.classifier)
        # In a thread, since a backbone's name is looked up in timm, which takes seconds to import.
        await asyncio.to_thread(messages.check_training, request)
        if not request.items.dataset:
            raise InvalidArgument("items.dataset", "must name a data set, is empty")
        await asyncio.to_thread(self._catalogue.announce, name)
        return await self._operations.start("TrainClassifier", request)

    async def GetClassifier(  # noqa: N802
        self, request: saliency_pb2.GetClassifierRequest, _: Context
    ) -> saliency_pb2.GetClassifierResponse:
        """Describes the newest version."""
        view = await self._shelf.look()
        entry = view.find(messages.read_name(request.classifier))
        evaluation = await asyncio.to_thread(self._catalogue.load_assessment, entry)
        return saliency_pb2.GetClassifierResponse(classifier=messages.write_classifier(entry, evaluation))

    async def ListClassifiers(  # noqa: N802
        self, request: saliency_pb2.ListClassifiersRequest, _: Context
    ) -> saliency_pb2.ListClassifiersResponse:
        """Lists the newest version of every classifier."""
        view = await self._shelf.look()
        names, token = messages.read_page(request, list_visible(view.names()))
        classifiers = [messages.write_classifier(view.find(name)) for name in names]
        return saliency_pb2.ListClassifiersResponse(classifiers=classifiers, next_page_token=token)

    async def DeleteClassifier(  # noqa: N802
        self, request: saliency_pb2.DeleteClassifierRequest, _: Context
    ) -> saliency_pb2.DeleteClassifierResponse:
        """Deletes all versions."""
        await asyncio.to_thread(self._catalogue.delete, messages.read_name(request.classifier))
        await self._shelf.look()
        return saliency_pb2.DeleteClassifierResponse()

    async def ClassifyImage(  # noqa: N802
        self, request: saliency_pb2.ClassifyImageRequest, _: Context
    ) -> saliency_pb2.ClassifyImageResponse:
        """Classifies one image."""
        return await self._classify(request)

    async def ClassifyImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.ClassifyImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.ClassifyImagesResponse]:
        """Classifies one image a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(
            request_iterator, self._classify, saliency_pb2.ClassifyImagesResponse, window
        ):
            yield answer

    async def ExplainImage(  # noqa: N802
        self, request: saliency_pb2.ExplainImageRequest, _: Context
    ) -> saliency_pb2.ExplainImageResponse:
        """Explains one image."""
        return await self._explain(request)

    async def ExplainImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.ExplainImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.ExplainImagesResponse]:
        """Explains one image a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(request_iterator, self._explain, saliency_pb2.ExplainImagesResponse, window):
            yield answer

    async def FilterImage(  # noqa: N802
        self, request: saliency_pb2.FilterImageRequest, _: Context
    ) -> saliency_pb2.FilterImageResponse:
        """Filters one image."""
        return await self._filter(request)

    async def FilterImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.FilterImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.FilterImagesResponse]:
        """Filters one image a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(request_iterator, self._filter, saliency_pb2.FilterImagesResponse, window):
            yield answer

    async def TrainObjectDetector(  # noqa: N802
        self, request: saliency_pb2.TrainObjectDetectorRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        return await self._desk.train(request)

    async def GetObjectDetector(  # noqa: N802
        self, request: saliency_pb2.GetObjectDetectorRequest, _: Context
    ) -> saliency_pb2.GetObjectDetectorResponse:
        """Describes the newest version."""
        return await self._desk.get(request)

    async def ListObjectDetectors(  # noqa: N802
        self, request: saliency_pb2.ListObjectDetectorsRequest, _: Context
    ) -> saliency_pb2.ListObjectDetectorsResponse:
        """Lists the newest version of every object detector."""
        return await self._desk.list(request)

    async def DeleteObjectDetector(  # noqa: N802
        self, request: saliency_pb2.DeleteObjectDetectorRequest, _: Context
    ) -> saliency_pb2.DeleteObjectDetectorResponse:
        """Deletes all versions."""
        return await self._desk.delete(request)

    async def DetectObjects(  # noqa: N802
        self, request: saliency_pb2.DetectObjectsRequest, _: Context
    ) -> saliency_pb2.DetectObjectsResponse:
        """Finds the objects in one image."""
        return await self._desk.detect(request)

    async def DetectObjectsInImages(  # noqa: N802
        self, request_iterator: AsyncIterator[saliency_pb2.DetectObjectsInImagesRequest], _: Context
    ) -> AsyncIterator[saliency_pb2.DetectObjectsInImagesResponse]:
        """Finds the objects in one image a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(
            request_iterator, self._desk.detect, saliency_pb2.DetectObjectsInImagesResponse, window
        ):
            yield answer

    async def start(self) -> None:
        """Starts what works beside the calls."""
        self._sweeper.start()

    async def close(self) -> None:
        """Ends what was started."""
        self._sweeper.close()
        await self._classifying.close()
        await self._sighting.close()
        await self._explaining.close()
        await self._desk.close()
        await self._codec.close()

    async def _classify(self, request: saliency_pb2.ClassifyImageRequest) -> saliency_pb2.ClassifyImageResponse:
        entry, classifier = await self._shelf.take(messages.read_name(request.classifier))
        self._classifying.check_room()
        image = await self._reader.read(request.image)
        prediction = await self._classifying.submit(Asked(classifier, image, PLAIN))
        labels = messages.write_labels(prediction)
        return saliency_pb2.ClassifyImageResponse(labels=labels, model=messages.write_model(entry))

    async def _filter(self, request: saliency_pb2.FilterImageRequest) -> saliency_pb2.FilterImageResponse:
        entry, classifier = await self._shelf.take(messages.read_name(request.classifier))
        wish = figures.read_wish(request)
        chosen = await asyncio.to_thread(classifier.choose_filter, wish)
        self._sighting.check_room()
        image = await self._reader.read(request.image)
        sighting = await self._sighting.submit(Asked(classifier, image, PLAIN))
        return figures.write_filtered(sighting, wish, chosen, entry)

    async def _explain(self, request: saliency_pb2.ExplainImageRequest) -> saliency_pb2.ExplainImageResponse:
        entry, classifier = await self._shelf.take(messages.read_name(request.classifier))
        question = messages.read_question(request)
        classifier.check_question(question)
        self._explaining.check_room()
        image = await self._reader.read(request.image)
        self._check_answer_size(image.shape, question.heatmap_side)
        explanation = await self._explaining.submit(Asked(classifier, image, question))
        return messages.write_explanation(explanation, image.shape, entry)

    def _check_answer_size(self, shape: tuple[int, ...], side: int) -> None:
        width, height = fit_heatmap(shape, side) or (1, 1)
        limit = self._settings.max_message_bytes - ENVELOPE_BYTES
        if 4 * width * height > limit:
            size = f"{width} x {height} cells of 4 bytes are more than the {limit} bytes an answer may hold"
            raise InvalidArgument("heatmap_side", f"{side} is too much for this image: {size}")

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
    servicer = SaliencyServicer(settings, Catalogue.open(store), open_catalogue(store), operations, codec, sweeper)
    return Service(
        name=SERVICE,
        descriptor=saliency_pb2.DESCRIPTOR.services_by_name["SaliencyService"],
        servicer=servicer,
        add_to_server=saliency_pb2_grpc.add_SaliencyServiceServicer_to_server,
        operations=operations,
        start=servicer.start,
        close=servicer.close,
    )
