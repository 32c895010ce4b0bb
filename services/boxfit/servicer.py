"""Boxfit's RPCs: convert, delegate, convert."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

import mekiki
from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.boxfit import messages
from services.boxfit.config import BoxfitSettings
from services.boxfit.explaining import explain_soon
from services.boxfit.foreground import ForegroundUse
from services.boxfit.model import FitTask, Method, ObjectFit, fit_tasks, warm_up
from services.boxfit.propose import Manner, pose_sight, propose
from services.boxfit.search_process import SearchProcess
from services.boxfit.sight import Sight, Sighting, find_all_boxes
from services.runtime.batcher import Batcher
from services.runtime.child import ChildLimits
from services.runtime.deadline import current_deadline
from services.runtime.errors import InvalidArgument, NotFound
from services.runtime.images import ImageReader, Pixels, filter_one
from services.runtime.model_metrics import MODELS
from services.runtime.neighbours import neighbour_options
from services.runtime.operations import Operations, open_operations
from services.runtime.server import Service
from services.runtime.store import Store
from services.runtime.streams import answer_frames

SERVICE = "boxfit"
SEARCH_TIMEOUT_S = 600.0
"""Longest time for a Bayesian search; the 200 boxes that may be asked for take minutes."""

Fits = tuple[ObjectFit, ...]
Sightings = tuple[Sighting, ...]
Context = grpc.aio.ServicerContext[Message, Message]


class BoxfitServicer(boxfit_pb2_grpc.BoxfitServiceServicer):
    """Answers BoxfitService."""

    def __init__(self, settings: BoxfitSettings, operations: Operations, neighbours: mekiki.AsyncClient) -> None:
        self._settings = settings
        self._operations = operations
        self._neighbours = neighbours
        # A fit gains nothing from company, so none waits for it; slow searches have a thread and a queue of their own,
        # and a process, for GPyOpt holds the interpreter while it thinks.
        self._fitting: Batcher[FitTask, Fits] = Batcher(
            "boxfit.fit",
            fit_tasks,
            max_batch=settings.max_batch,
            max_wait_s=0,
            queue_limit=settings.queue_limit,
        )
        self._looking: Batcher[Sight, Sightings] = Batcher(
            "boxfit.annotate",
            find_all_boxes,
            max_batch=settings.max_batch,
            max_wait_s=0,
            queue_limit=settings.queue_limit,
        )
        self._process = SearchProcess(ChildLimits(answer_timeout_s=SEARCH_TIMEOUT_S, idle_s=settings.child_idle_s))
        self._searching: Batcher[FitTask, Fits] = Batcher(
            "boxfit.bayesian",
            functools.partial(fit_tasks, search=self._process.fit),
            max_batch=1,
            max_wait_s=0,
            queue_limit=settings.bayesian_queue_limit,
        )
        self._pondering: Batcher[Sight, Sightings] = Batcher(
            "boxfit.annotate_bayesian",
            functools.partial(find_all_boxes, search=self._process.fit),
            max_batch=1,
            max_wait_s=0,
            queue_limit=settings.bayesian_queue_limit,
        )
        self._reader = ImageReader(settings.max_pixels, self._fetch_item)

    async def FitBox(  # noqa: N802 - the contract's name
        self, request: boxfit_pb2.FitBoxRequest, _: Context
    ) -> boxfit_pb2.FitBoxResponse:
        """Fits one box to a map."""
        return await self._fit_request(request)

    async def FitBoxes(  # noqa: N802
        self, request_iterator: AsyncIterator[boxfit_pb2.FitBoxesRequest], _: Context
    ) -> AsyncIterator[boxfit_pb2.FitBoxesResponse]:
        """Fits one box a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(request_iterator, self._fit_request, boxfit_pb2.FitBoxesResponse, window):
            yield answer

    async def AnnotateImage(  # noqa: N802
        self, request: boxfit_pb2.AnnotateImageRequest, _: Context
    ) -> boxfit_pb2.AnnotateImageResponse:
        """Annotates one image."""
        return await self._annotate(request)

    async def AnnotateImages(  # noqa: N802
        self, request_iterator: AsyncIterator[boxfit_pb2.AnnotateImagesRequest], _: Context
    ) -> AsyncIterator[boxfit_pb2.AnnotateImagesResponse]:
        """Annotates one image a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(request_iterator, self._annotate, boxfit_pb2.AnnotateImagesResponse, window):
            yield answer

    async def AnnotateDataset(  # noqa: N802
        self, request: boxfit_pb2.AnnotateDatasetRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        messages.check_model(request)
        messages.read_manner(request)
        if not request.items.dataset:
            raise InvalidArgument("items.dataset", "must name a data set, is empty")
        if request.segmenter:
            await self._neighbours.saliency.get_segmenter(request.segmenter, timeout_s=_remaining_s())
        else:
            await self._neighbours.saliency.get_classifier(request.classifier, timeout_s=_remaining_s())
        return await self._operations.start("AnnotateDataset", request)

    async def CalibrateBoxes(  # noqa: N802
        self, request: boxfit_pb2.CalibrateBoxesRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        messages.check_classifier(request.classifier)
        messages.read_teaching(request)
        if not request.items.dataset:
            raise InvalidArgument("items.dataset", "must name a data set, is empty")
        await self._neighbours.saliency.get_classifier(request.classifier, timeout_s=_remaining_s())
        return await self._operations.start("CalibrateBoxes", request)

    async def close(self) -> None:
        """Ends what was started."""
        await self._fitting.close()
        await self._searching.close()
        await self._looking.close()
        await self._pondering.close()
        await asyncio.to_thread(self._process.close)
        await self._neighbours.close()

    async def _fit_request(self, request: boxfit_pb2.FitBoxRequest) -> boxfit_pb2.FitBoxResponse:
        task = await asyncio.to_thread(messages.read_task, request, self._settings.max_map_pixels)
        batcher = self._searching if task.options.method is Method.BAYESIAN else self._fitting
        return messages.write_fits(await batcher.submit(task))

    async def _annotate(self, request: boxfit_pb2.AnnotateImageRequest) -> boxfit_pb2.AnnotateImageResponse:
        messages.check_classifier(request.classifier)
        manner = messages.read_manner(request)
        explanation = await self._explain(request, manner)
        looks = manner.find_lesson(explanation.label).foreground is not ForegroundUse.NEVER
        image = await self._reader.read(request.image) if looks else None
        sight = pose_sight(explanation, manner, self._settings.max_pixels, image)
        batcher = self._pondering if manner.options.method is Method.BAYESIAN else self._looking
        sightings = () if sight is None else await batcher.submit(sight)
        return messages.write_annotated(explanation, propose(explanation, sightings, manner))

    async def _explain(self, request: boxfit_pb2.AnnotateImageRequest, manner: Manner) -> mekiki.Explanation:
        try:
            explanation = await explain_soon(
                self._neighbours, request.classifier, request.image, request.label, manner.explain, _remaining_s()
            )
        except mekiki.errors.NotFound as error:
            if error.metadata.get("kind") == "classifier":
                MODELS.forget("classifier", request.classifier)
            raise
        MODELS.meet("classifier", request.classifier)
        return explanation

    async def _fetch_item(self, item: types_pb2.ItemRef) -> Pixels:
        async for read in self._neighbours.codec.read_items(filter_one(item)):
            return read.pixels
        raise NotFound("item", f"{item.dataset}/{item.item_id}")


def _remaining_s() -> float | None:
    """What is left of the caller's own time, for the service next door; None without a deadline."""
    deadline = current_deadline()
    return None if deadline is None else max(0.001, deadline - time.monotonic())


async def _start() -> None:
    await asyncio.to_thread(warm_up)


def open_service(settings: BoxfitSettings) -> Service:
    """Open the service inside the running loop."""
    store = Store.open(settings.store_url).prefixed(SERVICE)
    operations = open_operations(SERVICE, store, settings)
    neighbours = mekiki.AsyncClient(
        settings.saliency_address, addresses={"codec": settings.codec_address}, options=neighbour_options(settings)
    )
    servicer = BoxfitServicer(settings, operations, neighbours)
    return Service(
        name=SERVICE,
        descriptor=boxfit_pb2.DESCRIPTOR.services_by_name["BoxfitService"],
        servicer=servicer,
        add_to_server=boxfit_pb2_grpc.add_BoxfitServiceServicer_to_server,
        operations=operations,
        start=_start,
        close=servicer.close,
    )
