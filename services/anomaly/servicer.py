"""Anomaly's RPCs: convert, delegate, convert."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc
from services.anomaly import messages
from services.anomaly.calibration_messages import check_calibrated, read_promise
from services.anomaly.catalogue import Catalogue
from services.anomaly.compactor import open_compactor
from services.anomaly.config import AnomalySettings
from services.anomaly.engines.engine import Embedding
from services.anomaly.entries import Entry, Reference
from services.anomaly.figures import count_verdict
from services.anomaly.frames import heatmap_shape
from services.anomaly.intake import Intake
from services.anomaly.litter import list_grounds
from services.anomaly.model import Detector, choose_device
from services.anomaly.plan_messages import read_plan
from services.anomaly.shelf import Shelf
from services.anomaly.threads import count_threads, open_threads
from services.anomaly.trials import read_trials
from services.anomaly.tuning_messages import read_tuning
from services.runtime.batcher import Batcher
from services.runtime.chore import Chore
from services.runtime.errors import InvalidArgument
from services.runtime.neighbours import neighbour_options
from services.runtime.operations import Operations, open_operations
from services.runtime.server import Service
from services.runtime.store import Store
from services.runtime.streams import answer_frames
from services.runtime.sweep import open_sweeper
from services.runtime.tenants import list_visible

SERVICE = "anomaly"
ENVELOPE_BYTES = 1 << 16  # what an answer holds besides its heat map, generously

Context = grpc.aio.ServicerContext[Message, Message]
Work = Callable[[], Any]


class AnomalyServicer(anomaly_pb2_grpc.AnomalyServiceServicer):
    """Answers AnomalyService."""

    def __init__(
        self,
        settings: AnomalySettings,
        catalogue: Catalogue,
        operations: Operations,
        codec: mekiki.AsyncClient,
        sweeper: Chore,
    ) -> None:
        self._settings = settings
        self._sweeper = sweeper
        self._catalogue = catalogue
        self._operations = operations
        self._codec = codec
        self._intake = Intake(codec, settings.max_pixels)
        device = choose_device(settings.device)
        self._shelf = Shelf(catalogue, device, settings.loaded_detectors, settings.follow_ms / 1000)
        self._compactor = open_compactor(self._shelf.list_banks)
        # Verdicts and enrolments take turns.
        count = count_threads(device, settings.threads)
        threads = open_threads(count, SERVICE)
        self._scoring = self._open_batcher("anomaly.score", threads, count)
        self._enrolling = self._open_batcher("anomaly.enroll", threads, count)

    async def TrainDetector(  # noqa: N802 - the contract's name
        self, request: anomaly_pb2.TrainDetectorRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        name = messages.read_name(request.detector)
        await asyncio.to_thread(read_plan, request, aligned=False)  # may import timm, which takes seconds
        await asyncio.to_thread(self._catalogue.announce, name)
        return await self._operations.start("TrainDetector", request)

    async def GetDetector(  # noqa: N802
        self, request: anomaly_pb2.GetDetectorRequest, _: Context
    ) -> anomaly_pb2.GetDetectorResponse:
        """Describes the version that is meant."""
        view = await self._shelf.look()
        entry = view.find(messages.read_reference(request.detector))
        return anomaly_pb2.GetDetectorResponse(detector=await self._describe(entry))

    async def ListDetectors(  # noqa: N802
        self, request: anomaly_pb2.ListDetectorsRequest, _: Context
    ) -> anomaly_pb2.ListDetectorsResponse:
        """Lists the versions that serve, or all."""
        view = await self._shelf.look()
        entries = [entry for name in list_visible(view.names()) for entry in view.versions(name)]
        page, token = messages.read_page(request, entries)
        detectors = [await self._describe(entry) for entry in page]
        return anomaly_pb2.ListDetectorsResponse(detectors=detectors, next_page_token=token)

    async def DeleteDetector(  # noqa: N802
        self, request: anomaly_pb2.DeleteDetectorRequest, _: Context
    ) -> anomaly_pb2.DeleteDetectorResponse:
        """Deletes all versions, or one."""
        await asyncio.to_thread(self._catalogue.delete, messages.read_reference(request.detector))
        await self._shelf.look()
        return anomaly_pb2.DeleteDetectorResponse()

    async def PromoteDetector(  # noqa: N802
        self, request: anomaly_pb2.PromoteDetectorRequest, _: Context
    ) -> anomaly_pb2.PromoteDetectorResponse:
        """Makes a version the one that serves."""
        view = await self._shelf.look()
        entry = view.find(messages.read_version(request.detector))
        serving = view.find(Reference(entry.name))
        messages.check_enrolled(entry, await asyncio.to_thread(self._catalogue.count_bank, entry))
        check_calibrated(entry, serving, await asyncio.to_thread(self._catalogue.count_bank, serving))
        await asyncio.to_thread(self._catalogue.promote, entry)
        return anomaly_pb2.PromoteDetectorResponse(detector=await self._describe_serving(entry.name))

    async def RollbackDetector(  # noqa: N802
        self, request: anomaly_pb2.RollbackDetectorRequest, _: Context
    ) -> anomaly_pb2.RollbackDetectorResponse:
        """Makes the version serve that served before."""
        name = messages.read_name(request.detector)
        await asyncio.to_thread(self._catalogue.roll_back, name)
        return anomaly_pb2.RollbackDetectorResponse(detector=await self._describe_serving(name))

    async def EnrollItems(  # noqa: N802
        self, request: anomaly_pb2.EnrollItemsRequest, _: Context
    ) -> anomaly_pb2.EnrollItemsResponse:
        """Adds normals to the bank."""
        ids = messages.read_enrolled_ids(request)
        entry, detector, bank = await self._shelf.take_bank(messages.read_reference(request.detector))
        known = detector.normals.items
        new = [item for item in request.items if item.item_id not in known]
        embeddings = await asyncio.gather(*(self._embed(item, entry, detector) for item in new))
        contributions = [(item.item_id, item.category, each) for item, each in zip(new, embeddings, strict=True)]
        change = await asyncio.to_thread(bank.enroll, contributions)
        enrolled = len(change.changed)
        return anomaly_pb2.EnrollItemsResponse(
            bank_version=change.version, enrolled_count=enrolled, duplicate_count=len(ids) - enrolled
        )

    async def ForgetItems(  # noqa: N802
        self, request: anomaly_pb2.ForgetItemsRequest, _: Context
    ) -> anomaly_pb2.ForgetItemsResponse:
        """Removes normals from the bank."""
        ids = messages.read_forgotten_ids(request)
        bank = (await self._shelf.take_bank(messages.read_reference(request.detector)))[2]
        change = await asyncio.to_thread(bank.forget, ids)
        return anomaly_pb2.ForgetItemsResponse(bank_version=change.version, forgotten_count=len(change.changed))

    async def CalibrateDetector(  # noqa: N802
        self, request: anomaly_pb2.CalibrateDetectorRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        read_promise(request)
        request.detector = await self._check(request.detector, request.items.dataset)
        return await self._operations.start("CalibrateDetector", request)

    async def ScoreImage(  # noqa: N802
        self, request: anomaly_pb2.ScoreImageRequest, _: Context
    ) -> anomaly_pb2.ScoreImageResponse:
        """Judges one image."""
        return await self._score(request)

    async def ScoreImages(  # noqa: N802
        self, request_iterator: AsyncIterator[anomaly_pb2.ScoreImagesRequest], _: Context
    ) -> AsyncIterator[anomaly_pb2.ScoreImagesResponse]:
        """Judges one image a frame."""
        window = self._settings.stream_window
        async for answer in answer_frames(request_iterator, self._score, anomaly_pb2.ScoreImagesResponse, window):
            yield answer

    async def EvaluateDetector(  # noqa: N802
        self, request: anomaly_pb2.EvaluateDetectorRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        request.detector = await self._check(request.detector, request.items.dataset)
        return await self._operations.start("EvaluateDetector", request)

    async def RunTrials(  # noqa: N802
        self, request: anomaly_pb2.RunTrialsRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        trials = await asyncio.to_thread(read_trials, request)  # may import timm
        return await self._operations.start("RunTrials", request, trials)

    async def TuneCompression(  # noqa: N802
        self, request: anomaly_pb2.TuneCompressionRequest, _: Context
    ) -> operations_pb2.Operation:
        """Checks the request and starts the work."""
        await asyncio.to_thread(read_tuning, request)
        return await self._operations.start("TuneCompression", request)

    async def start(self) -> None:
        """Starts what works beside the calls."""
        self._sweeper.start()
        self._compactor.start()

    async def close(self) -> None:
        """Ends what was started."""
        self._sweeper.close()
        self._compactor.close()
        await self._scoring.close()
        await self._enrolling.close()
        await self._codec.close()

    async def _score(self, request: anomaly_pb2.ScoreImageRequest) -> anomaly_pb2.ScoreImageResponse:
        side = messages.read_heatmap_side(request)
        category = messages.read_category(request.category, "category") or None
        entry, detector = await self._shelf.take(messages.read_reference(request.detector), category)
        self._scoring.check_room()
        taken = await self._intake.take(request.image, entry.about)
        self._check_answer_size(taken.placement.shape, side)
        verdict = await self._scoring.submit(
            lambda: detector.score_image(taken.pixels, taken.placement, side, category)
        )
        self._shelf.note(entry, verdict)
        if entry.serves:
            count_verdict(entry.name, is_anomalous=verdict.is_anomalous)
        return messages.write_verdict(verdict, taken.placement, entry, aligned=taken.aligned)

    async def _embed(self, item: anomaly_pb2.EnrolledItem, entry: Entry, detector: Detector) -> Embedding:
        taken = await self._intake.take(item.image, entry.about, f"items[{item.item_id}].image")
        embedding: Embedding = await self._enrolling.submit(lambda: detector.contribute_item(taken.pixels))
        return embedding

    async def _describe(self, entry: Entry) -> anomaly_pb2.Detector:
        census = await asyncio.to_thread(self._catalogue.count_bank, entry)
        return messages.write_detector(entry, census, self._shelf.watch(entry))

    async def _describe_serving(self, name: str) -> anomaly_pb2.Detector:
        view = await self._shelf.look()
        return await self._describe(view.find(Reference(name)))

    async def _check(self, detector: str, dataset: str) -> str:
        """Refuses now what the work would fail on at once; the version that is meant now, whatever serves later."""
        view = await self._shelf.look()
        entry = view.find(messages.read_reference(detector))
        if not dataset:
            raise InvalidArgument("items.dataset", "must name a data set, is empty")
        census = await asyncio.to_thread(self._catalogue.count_bank, entry)
        messages.check_enrolled(entry, census)
        return str(entry.reference)

    def _check_answer_size(self, shape: tuple[int, int], side: int) -> None:
        rows, columns = heatmap_shape(shape, side)
        limit = self._settings.max_message_bytes - ENVELOPE_BYTES
        if 4 * rows * columns > limit:
            size = f"{columns} x {rows} cells of 4 bytes are more than the {limit} bytes an answer may hold"
            raise InvalidArgument("heatmap_side", f"{side} is too much for this image: {size}")

    def _open_batcher(self, name: str, threads: ThreadPoolExecutor, count: int) -> Batcher[Work, Any]:
        return Batcher(
            name,
            lambda works: [work() for work in works],
            max_batch=1,  # a score never depends on what else is asked for
            max_wait_s=0,
            queue_limit=self._settings.queue_limit,
            executor=threads,
            workers=count,
        )


def open_service(settings: AnomalySettings) -> Service:
    """Open the service inside the running loop."""
    store = Store.open(settings.store_url).prefixed(SERVICE)
    operations = open_operations(SERVICE, store, settings)
    codec = mekiki.AsyncClient(settings.codec_address, options=neighbour_options(settings))
    sweeper = open_sweeper(lambda: list_grounds(store), settings.sweep_grace_s, settings.sweep_every_s)
    servicer = AnomalyServicer(settings, Catalogue.open(store), operations, codec, sweeper)
    return Service(
        name=SERVICE,
        descriptor=anomaly_pb2.DESCRIPTOR.services_by_name["AnomalyService"],
        servicer=servicer,
        add_to_server=anomaly_pb2_grpc.add_AnomalyServiceServicer_to_server,
        operations=operations,
        start=servicer.start,
        close=servicer.close,
    )
