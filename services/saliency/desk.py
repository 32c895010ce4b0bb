"""The part of saliency's RPCs that is about classifiers: convert, delegate, convert."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import torch
from google.longrunning import operations_pb2

from mekiki.saliency.v1 import saliency_pb2
from services.runtime.batcher import Batcher
from services.runtime.errors import InvalidArgument
from services.runtime.images import ImageReader
from services.runtime.operations import Operations
from services.runtime.tenants import list_visible
from services.saliency import figures, messages
from services.saliency.batches import Asked, classify_batch, explain_batch, sight_batch
from services.saliency.catalogue import About, Catalogue
from services.saliency.config import SaliencySettings
from services.saliency.model import Classifier, Explanation, Prediction, Question, fit_heatmap
from services.saliency.shelf import Shelf
from services.saliency.triage import Sighting

ENVELOPE_BYTES = 1 << 16  # what an answer holds besides its heat map, generously
PLAIN = Question()


class ClassifierDesk:
    """Answers what is asked about and of classifiers.

    Args:
        settings: of the service.
        catalogue: what there is.
        operations: where long work is started.
        reader: reads the images of requests.
        device: where classifiers compute.
        thread: where they run; the service's other models share it.
    """

    def __init__(
        self,
        settings: SaliencySettings,
        catalogue: Catalogue,
        operations: Operations,
        reader: ImageReader,
        device: torch.device,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._operations = operations
        self._reader = reader
        self._shelf: Shelf[About, Classifier] = Shelf(
            catalogue, lambda data: Classifier.load(data, device), settings.loaded_classifiers
        )
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

    async def train(self, request: saliency_pb2.TrainClassifierRequest) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        name = messages.read_name(request.classifier)
        # In a thread, since a backbone's name is looked up in timm, which takes seconds to import.
        await asyncio.to_thread(messages.check_training, request)
        if not request.items.dataset:
            raise InvalidArgument("items.dataset", "must name a data set, is empty")
        await asyncio.to_thread(self._catalogue.announce, name)
        return await self._operations.start("TrainClassifier", request)

    async def get(self, request: saliency_pb2.GetClassifierRequest) -> saliency_pb2.GetClassifierResponse:
        """Describes the newest version."""
        view = await self._shelf.look()
        entry = view.find(messages.read_name(request.classifier))
        evaluation = await asyncio.to_thread(self._catalogue.load_assessment, entry)
        return saliency_pb2.GetClassifierResponse(classifier=messages.write_classifier(entry, evaluation))

    async def list(self, request: saliency_pb2.ListClassifiersRequest) -> saliency_pb2.ListClassifiersResponse:
        """Lists the newest version of every classifier."""
        view = await self._shelf.look()
        names, token = messages.read_page(request, list_visible(view.names()))
        classifiers = [messages.write_classifier(view.find(name)) for name in names]
        return saliency_pb2.ListClassifiersResponse(classifiers=classifiers, next_page_token=token)

    async def delete(self, request: saliency_pb2.DeleteClassifierRequest) -> saliency_pb2.DeleteClassifierResponse:
        """Deletes all versions."""
        await asyncio.to_thread(self._catalogue.delete, messages.read_name(request.classifier))
        await self._shelf.look()
        return saliency_pb2.DeleteClassifierResponse()

    async def classify(self, request: saliency_pb2.ClassifyImageRequest) -> saliency_pb2.ClassifyImageResponse:
        """Classifies an image."""
        entry, classifier = await self._shelf.take(messages.read_name(request.classifier))
        self._classifying.check_room()
        image = await self._reader.read(request.image)
        prediction = await self._classifying.submit(Asked(classifier, image, PLAIN))
        labels = messages.write_labels(prediction)
        return saliency_pb2.ClassifyImageResponse(labels=labels, model=messages.write_model(entry))

    async def filter(self, request: saliency_pb2.FilterImageRequest) -> saliency_pb2.FilterImageResponse:
        """Filters an image."""
        entry, classifier = await self._shelf.take(messages.read_name(request.classifier))
        wish = figures.read_wish(request)
        chosen = await asyncio.to_thread(classifier.choose_filter, wish)
        self._sighting.check_room()
        image = await self._reader.read(request.image)
        sighting = await self._sighting.submit(Asked(classifier, image, PLAIN))
        return figures.write_filtered(sighting, wish, chosen, entry)

    async def explain(self, request: saliency_pb2.ExplainImageRequest) -> saliency_pb2.ExplainImageResponse:
        """Explains an image."""
        entry, classifier = await self._shelf.take(messages.read_name(request.classifier))
        question = messages.read_question(request)
        classifier.check_question(question)
        self._explaining.check_room()
        image = await self._reader.read(request.image)
        self._check_answer_size(image.shape, question.heatmap_side)
        explanation = await self._explaining.submit(Asked(classifier, image, question))
        return messages.write_explanation(explanation, image.shape, entry)

    async def close(self) -> None:
        """Ends what was started."""
        await self._classifying.close()
        await self._sighting.close()
        await self._explaining.close()

    def _check_answer_size(self, shape: tuple[int, ...], side: int) -> None:
        width, height = fit_heatmap(shape, side) or (1, 1)
        limit = self._settings.max_message_bytes - ENVELOPE_BYTES
        if 4 * width * height > limit:
            size = f"{width} x {height} cells of 4 bytes are more than the {limit} bytes an answer may hold"
            raise InvalidArgument("heatmap_side", f"{side} is too much for this image: {size}")
