"""Anomaly: is this part normal, and if not, where?"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mekiki._async.operation import AsyncOperation
from mekiki._async.streams import Travel, answer_frames, tag_frames
from mekiki._async.trials import AsyncTrials
from mekiki._values.anomaly import Detector, EnrolledItem, Enrolment, Forgetting, ScoredImage
from mekiki._values.dataset import ItemsLike, to_item_filter
from mekiki._values.engine import DEFAULT_ENGINE, Engine
from mekiki._values.evaluation import Calibration, Evaluation
from mekiki._values.frame import Answer, Frame
from mekiki._values.image import ImageLike, to_image
from mekiki._values.trials import Configuration
from mekiki._wire import asynchronous as wire
from mekiki.anomaly.v1 import anomaly_pb2

PAGE_SIZE = 1000
ENROL_ITEMS = 64
"""Most items of one EnrollItems call."""

ENROL_BYTES = 16 * 1024 * 1024
"""One EnrollItems call is sent once its images weigh this much: far below what a message may hold."""

FORGET_ITEMS = 1000
"""Most identifiers of one ForgetItems call."""


class AsyncAnomaly(AsyncTrials):
    """Detectors: trained on normals, asked whether a part is one.

    Wherever a method but `train_detector` takes a detector, "screws" is the version that serves, "screws@7" version 7.
    One detector may judge several categories of parts: each has normals and a threshold of its own.
    """

    async def train_detector(
        self,
        detector: str,
        items: ItemsLike,
        *,
        engine: Engine = DEFAULT_ENGINE,
        backbone: str = "",
        seed: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncOperation[Detector]:
        """Trains a detector's embedder on normal items, for a bank that is empty at first.

        The first version of a name serves at once, a later one when `promote_detector` says so.

        Args:
            detector: its name.
            items: normals. With prepared pixels, the detector prepares every image it judges like these.
            engine: how.
            backbone: of timm, or "small"; default "mobilenetv2_100".
            seed: of everything that is drawn.
            timeout_s: deadline of starting it.
        """
        request = Configuration(detector, items, engine, backbone, seed).to_proto()
        record = await self._funnel.start(self._stub.TrainDetector, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def get_detector(self, detector: str, *, timeout_s: float | None = None) -> Detector:
        """Describes a detector.

        Raises:
            NotFound: there is none of that name, or no such version.
        """
        request = anomaly_pb2.GetDetectorRequest(detector=detector)
        response = await self._funnel.unary(self._stub.GetDetector, request, timeout_s)
        return Detector.from_proto(response.detector)

    async def list_detectors(
        self, *, all_versions: bool = False, timeout_s: float | None = None
    ) -> tuple[Detector, ...]:
        """All detectors, by name, or all versions of all; `timeout_s` is for each page of 1000."""
        detectors: list[Detector] = []
        request = anomaly_pb2.ListDetectorsRequest(page_size=PAGE_SIZE, all_versions=all_versions)
        while True:
            response = await self._funnel.unary(self._stub.ListDetectors, request, timeout_s)
            detectors += map(Detector.from_proto, response.detectors)
            if not response.next_page_token:
                return tuple(detectors)
            request.page_token = response.next_page_token

    async def delete_detector(self, detector: str, *, timeout_s: float | None = None) -> None:
        """Deletes a detector with all its versions and their banks, or one version that does not serve.

        Raises:
            NotFound: there is none of that name, or no such version.
            FailedPrecondition: DETECTOR_SERVES.
        """
        request = anomaly_pb2.DeleteDetectorRequest(detector=detector)
        await self._funnel.unary(self._stub.DeleteDetector, request, timeout_s)

    async def promote_detector(self, detector: str, *, timeout_s: float | None = None) -> Detector:
        """Makes a version, such as "screws@7", the one that serves; returns it.

        Raises:
            NotFound: there is no such version.
            FailedPrecondition: BANK_EMPTY, or DETECTOR_UNCALIBRATED while a category of the one that serves has a
                threshold that this one lacks.
        """
        request = anomaly_pb2.PromoteDetectorRequest(detector=detector)
        response = await self._funnel.unary(self._stub.PromoteDetector, request, timeout_s)
        return Detector.from_proto(response.detector)

    async def rollback_detector(self, detector: str, *, timeout_s: float | None = None) -> Detector:
        """Makes the version serve that served before the one that does; returns it.

        Raises:
            NotFound: there is no detector of that name.
            FailedPrecondition: NO_EARLIER_VERSION.
        """
        request = anomaly_pb2.RollbackDetectorRequest(detector=detector)
        response = await self._funnel.unary(self._stub.RollbackDetector, request, timeout_s)
        return Detector.from_proto(response.detector)

    async def enroll_items(
        self, detector: str, items: wire.Input[EnrolledItem], *, timeout_s: float | None = None
    ) -> Enrolment:
        """Adds normals to the bank, any number, in calls of at most 64; returns once all of them are durable.

        Idempotent by item identifier: after an error, enrolling the same items again completes the work, and an item
        that is enrolled stays in its category. `timeout_s` is for each call.

        Raises:
            FailedPrecondition: TOO_MANY_CATEGORIES, more than 100.
        """
        total = Enrolment(0, 0, 0)
        request = anomaly_pb2.EnrollItemsRequest(detector=detector)
        size = 0
        async for item in wire.each(items):
            sent = await wire.run_blocking(item.to_proto)
            if request.items and (len(request.items) == ENROL_ITEMS or size + sent.ByteSize() > ENROL_BYTES):
                total = await self._enroll(request, total, timeout_s)
                del request.items[:]
                size = 0
            request.items.append(sent)
            size += sent.ByteSize()
        return await self._enroll(request, total, timeout_s) if request.items else total

    async def _enroll(
        self, request: anomaly_pb2.EnrollItemsRequest, total: Enrolment, timeout_s: float | None
    ) -> Enrolment:
        response = await self._funnel.unary(self._stub.EnrollItems, request, timeout_s)
        return Enrolment(
            bank_version=response.bank_version,
            enrolled_count=total.enrolled_count + response.enrolled_count,
            duplicate_count=total.duplicate_count + response.duplicate_count,
        )

    async def forget_items(
        self, detector: str, item_ids: Sequence[str], *, timeout_s: float | None = None
    ) -> Forgetting:
        """Removes normals from the bank, any number, in calls of at most 1000; `timeout_s` is for each. Idempotent."""
        total = Forgetting(0, 0)
        for start in range(0, len(item_ids), FORGET_ITEMS):
            some = item_ids[start : start + FORGET_ITEMS]
            request = anomaly_pb2.ForgetItemsRequest(detector=detector, item_ids=some)
            response = await self._funnel.unary(self._stub.ForgetItems, request, timeout_s)
            total = Forgetting(response.bank_version, total.forgotten_count + response.forgotten_count)
        return total

    async def calibrate_detector(
        self,
        detector: str,
        items: ItemsLike,
        *,
        false_alarm_rate: float | None = None,
        confidence: float | None = None,
        timeout_s: float | None = None,
    ) -> AsyncOperation[Calibration]:
        """Sets the thresholds of all categories from normal items alone.

        Args:
            detector: a detector with an enrolled bank.
            items: normals, enough of every category; one that is enrolled is never scored against itself, another one
                counts for the category that it is nearest to.
            false_alarm_rate: at most this share of normals may be called anomalous, 0 < rate < 1; default 0.01.
            confidence: with this probability, 0 < confidence < 1; default 0.95.
            timeout_s: deadline of starting it.
        """
        request = anomaly_pb2.CalibrateDetectorRequest(
            detector=detector, items=to_item_filter(items), false_alarm_rate=false_alarm_rate, confidence=confidence
        )
        record = await self._funnel.start(self._stub.CalibrateDetector, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def score_image(
        self,
        detector: str,
        image: ImageLike,
        *,
        heatmap_side: int | None = None,
        category: str = "",
        timeout_s: float | None = None,
    ) -> ScoredImage:
        """Judges an image.

        Args:
            detector: a detector with an enrolled bank.
            image: the image.
            heatmap_side: longer side of the heat map, 0 to 4096 cells; 0 means none; default 256.
            category: the kind of part that it shows; default the one that it scores lowest in.
            timeout_s: deadline; default 60 s.

        Raises:
            NotFound: there is no such detector, or none of its normals is of that category.
        """
        sent = await wire.run_blocking(to_image, image)
        request = anomaly_pb2.ScoreImageRequest(
            detector=detector, image=sent, heatmap_side=heatmap_side, category=category
        )
        return ScoredImage.from_proto(await self._funnel.unary(self._stub.ScoreImage, request, timeout_s))

    async def score_images(
        self,
        detector: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        *,
        heatmap_side: int | None = None,
        category: str = "",
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[ScoredImage], None]:
        """`score_image` for a stream: one answer an image, in order; one bad image answers its own error.

        A `category` is that of all of them.
        """

        def make(tag: str, image: ImageLike) -> anomaly_pb2.ScoreImagesRequest:
            request = anomaly_pb2.ScoreImageRequest(
                detector=detector, image=to_image(image), heatmap_side=heatmap_side, category=category
            )
            return anomaly_pb2.ScoreImagesRequest(id=tag, request=request)

        def convert(answer: anomaly_pb2.ScoreImagesResponse) -> ScoredImage:
            return ScoredImage.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.ScoreImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer

    async def evaluate_detector(
        self, detector: str, items: ItemsLike, *, normal_labels: Sequence[str] = (), timeout_s: float | None = None
    ) -> AsyncOperation[Evaluation]:
        """Measures a detector on labelled items, judged as score_image would; normal labels default to "good".

        Each is judged as the category that it scores lowest in.
        """
        request = anomaly_pb2.EvaluateDetectorRequest(
            detector=detector, items=to_item_filter(items), normal_labels=normal_labels
        )
        record = await self._funnel.start(self._stub.EvaluateDetector, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)
