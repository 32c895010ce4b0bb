"""The part of saliency's RPCs that is about object detectors: convert, delegate, convert.

What needs torchvision imports it when the first detector is loaded: it takes seconds, and not everybody has one.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from google.longrunning import operations_pb2

from mekiki.saliency.v1 import saliency_pb2
from services.runtime.batcher import Batcher
from services.runtime.errors import InvalidArgument
from services.runtime.images import ImageReader
from services.runtime.operations import Operations
from services.runtime.tenants import list_visible
from services.saliency.config import SaliencySettings
from services.saliency.detection import messages
from services.saliency.detection.catalogue import About, Catalogue
from services.saliency.detection.objects import DetectedObject, Wanted
from services.saliency.messages import read_page
from services.saliency.shelf import Shelf

if TYPE_CHECKING:
    from services.saliency.detection.model import ObjectDetector


@dataclass(frozen=True, eq=False)
class _Asked:
    """One image for one detector."""

    detector: "ObjectDetector"
    image: npt.NDArray[np.generic]
    wanted: Wanted


class DetectionDesk:
    """Answers what is asked about and of object detectors.

    Args:
        settings: of the service.
        catalogue: what there is.
        operations: where long work is started.
        reader: reads the images of requests.
        device: where detectors compute.
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
        self._catalogue = catalogue
        self._operations = operations
        self._reader = reader
        self._device = device
        self._shelf: Shelf[About, ObjectDetector] = Shelf(catalogue, self._load, settings.loaded_classifiers)
        self._detecting: Batcher[_Asked, list[DetectedObject]] = Batcher(
            "saliency.detect",
            _detect_batch,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            queue_limit=settings.queue_limit,
            executor=thread,
        )

    async def train(self, request: saliency_pb2.TrainObjectDetectorRequest) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        name = messages.read_name(request.object_detector)
        # In a thread, since a backbone's name is looked up in timm, which takes seconds to import.
        await asyncio.to_thread(_check_training, request)
        await asyncio.to_thread(self._catalogue.announce, name)
        return await self._operations.start("TrainObjectDetector", request)

    async def get(self, request: saliency_pb2.GetObjectDetectorRequest) -> saliency_pb2.GetObjectDetectorResponse:
        """Describes the newest version."""
        view = await self._shelf.look()
        entry = view.find(messages.read_name(request.object_detector))
        return saliency_pb2.GetObjectDetectorResponse(object_detector=messages.write_detector(entry))

    async def list(self, request: saliency_pb2.ListObjectDetectorsRequest) -> saliency_pb2.ListObjectDetectorsResponse:
        """Lists the newest version of every object detector."""
        view = await self._shelf.look()
        names, token = read_page(request, list_visible(view.names()))
        detectors = [messages.write_detector(view.find(name)) for name in names]
        return saliency_pb2.ListObjectDetectorsResponse(object_detectors=detectors, next_page_token=token)

    async def delete(
        self, request: saliency_pb2.DeleteObjectDetectorRequest
    ) -> saliency_pb2.DeleteObjectDetectorResponse:
        """Deletes all versions."""
        await asyncio.to_thread(self._catalogue.delete, messages.read_name(request.object_detector))
        await self._shelf.look()
        return saliency_pb2.DeleteObjectDetectorResponse()

    async def detect(self, request: saliency_pb2.DetectObjectsRequest) -> saliency_pb2.DetectObjectsResponse:
        """Finds the objects in an image."""
        name, wanted = messages.read_name(request.object_detector), messages.read_wanted(request)
        entry, detector = await self._shelf.take(name)
        self._detecting.check_room()
        image = await self._reader.read(request.image)
        found = await self._detecting.submit(_Asked(detector, image, wanted))
        return messages.write_objects(found, image.shape, entry)

    async def close(self) -> None:
        """Ends what was started."""
        await self._detecting.close()

    def _load(self, data: bytes) -> "ObjectDetector":
        from services.saliency.detection.model import ObjectDetector  # noqa: PLC0415 - see the head of this file

        return ObjectDetector.load(data, self._device)


def _check_training(request: saliency_pb2.TrainObjectDetectorRequest) -> None:
    """Refuse, with InvalidArgument naming the field, what the worker would refuse later."""
    messages.read_recipe(request)
    messages.read_input_size(request)
    if not request.items.dataset:
        raise InvalidArgument("items.dataset", "must name a data set, is empty")


def _detect_batch(batch: list[_Asked]) -> list[list[DetectedObject] | Exception]:
    """Find the objects of every image by its own detector; one that cannot be read fails alone."""
    answers: list[list[DetectedObject] | Exception] = []
    for asked in batch:
        try:
            answers += asked.detector.detect([asked.image], asked.wanted)
        except InvalidArgument as error:
            answers.append(error)
    return answers
