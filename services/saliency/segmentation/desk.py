"""The part of saliency's RPCs that is about segmenters: convert, delegate, convert.

What needs torchvision imports it when the first segmenter is loaded: it takes seconds, and not everybody has one.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from google.longrunning import operations_pb2

from mekiki.saliency.v1 import saliency_pb2
from services.runtime.batcher import Batcher
from services.runtime.child import ChildLimits
from services.runtime.cores import count_cores
from services.runtime.errors import InvalidArgument
from services.runtime.images import ImageReader
from services.runtime.operations import Operations
from services.runtime.tenants import list_visible
from services.saliency.batches import answer_alike
from services.saliency.config import SaliencySettings
from services.saliency.messages import read_page
from services.saliency.segmentation import messages
from services.saliency.segmentation.catalogue import About, Catalogue, Entry
from services.saliency.segmentation.crf_processes import CrfProcesses
from services.saliency.segmentation.dense_crf import Scores
from services.saliency.segmentation.drawing import Image, draw, refine_scores
from services.saliency.shelf import Shelf

if TYPE_CHECKING:
    from services.saliency.segmentation.model import Segmenter

MOST_CRF_PROCESSES = 4
"""Each takes 0.4 GB at work on seven classes at full size, 0.9 GB on twenty-one."""
CRF_TIMEOUT_S = 120.0
"""Longest time for one image; twenty-one classes at full size take some ten seconds of an idle core."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """One image for one segmenter."""

    segmenter: "Segmenter"
    image: Image


@dataclass(frozen=True, eq=False)
class _Rough:
    """An image's scores on the network's grid."""

    scores: Scores
    image: Image


class SegmentationDesk:
    """Answers what is asked about and of segmenters.

    Args:
        settings: of the service.
        catalogue: what there is.
        operations: where long work is started.
        reader: reads the images of requests.
        device: where segmenters compute.
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
        self._shelf: Shelf[About, Segmenter] = Shelf(catalogue, self._load, settings.loaded_classifiers)
        self._scoring: Batcher[_Asked, Scores] = Batcher(
            "saliency.segment",
            _score_batch,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            queue_limit=settings.queue_limit,
            executor=thread,
        )
        limits = ChildLimits(answer_timeout_s=CRF_TIMEOUT_S, idle_s=settings.child_idle_s)
        self._processes = CrfProcesses(min(count_cores(), MOST_CRF_PROCESSES), limits)
        self._refining: Batcher[_Rough, Scores] = Batcher(
            "saliency.refine",
            lambda batch: [refine_scores(one.scores, one.image, self._processes.refine) for one in batch],
            max_batch=1,
            max_wait_s=0,
            queue_limit=settings.queue_limit,
            workers=self._processes.count,
        )

    async def train(self, request: saliency_pb2.TrainSegmenterRequest) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        name = messages.read_name(request.segmenter)
        asked = messages.settle(request, (await self._shelf.look()).find(name)) if request.go_on else request
        # In a thread, since a backbone's name is looked up in timm, which takes seconds to import.
        await asyncio.to_thread(_check_training, asked)
        await asyncio.to_thread(self._catalogue.announce, name)
        return await self._operations.start("TrainSegmenter", request)

    async def get(self, request: saliency_pb2.GetSegmenterRequest) -> saliency_pb2.GetSegmenterResponse:
        """Describes the newest version."""
        view = await self._shelf.look()
        entry = view.find(messages.read_name(request.segmenter))
        return saliency_pb2.GetSegmenterResponse(segmenter=messages.write_segmenter(entry))

    async def list(self, request: saliency_pb2.ListSegmentersRequest) -> saliency_pb2.ListSegmentersResponse:
        """Lists the newest version of every segmenter."""
        view = await self._shelf.look()
        names, token = read_page(request, list_visible(view.names()))
        segmenters = [messages.write_segmenter(view.find(name)) for name in names]
        return saliency_pb2.ListSegmentersResponse(segmenters=segmenters, next_page_token=token)

    async def delete(self, request: saliency_pb2.DeleteSegmenterRequest) -> saliency_pb2.DeleteSegmenterResponse:
        """Deletes all versions."""
        await asyncio.to_thread(self._catalogue.delete, messages.read_name(request.segmenter))
        await self._shelf.look()
        return saliency_pb2.DeleteSegmenterResponse()

    async def segment(self, request: saliency_pb2.SegmentImageRequest) -> saliency_pb2.SegmentImageResponse:
        """Says which pixels of an image show what."""
        name = messages.read_name(request.segmenter)
        messages.check_question(request)
        entry, segmenter = await self._shelf.take(name)
        self._scoring.check_room()
        if request.refine:
            self._refining.check_room()
        image = await self._reader.read(request.image)
        scores = await self._scoring.submit(_Asked(segmenter, image))
        if request.refine:
            scores = await self._refining.submit(_Rough(scores, image))
        return await asyncio.to_thread(_write, scores, image, request, entry)

    async def close(self) -> None:
        """Ends what was started."""
        await self._scoring.close()
        await self._refining.close()
        await asyncio.to_thread(self._processes.close)

    def _load(self, data: bytes) -> "Segmenter":
        from services.saliency.segmentation.model import Segmenter  # noqa: PLC0415 - see the head of this file

        return Segmenter.load(data, self._device)


def _check_training(request: saliency_pb2.TrainSegmenterRequest) -> None:
    """Refuse, with InvalidArgument naming the field, what the worker would refuse later."""
    messages.read_recipe(request)
    messages.read_input_size(request)
    if not request.items.dataset:
        raise InvalidArgument("items.dataset", "must name a data set, is empty")


def _score_batch(batch: Sequence[_Asked]) -> Sequence[Scores | Exception]:
    """Score every image by its own segmenter."""
    return answer_alike(
        batch,
        lambda asked: id(asked.segmenter),
        lambda alike: list(alike[0].segmenter.score([asked.image for asked in alike])),
    )


def _write(
    scores: Scores, image: Image, request: saliency_pb2.SegmentImageRequest, entry: Entry
) -> saliency_pb2.SegmentImageResponse:
    return messages.write_segments(draw(scores, image.shape), request, entry)
