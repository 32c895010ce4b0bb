"""What is tried with detectors that are not kept."""

from collections.abc import Sequence

from google.longrunning import operations_pb2_grpc

from mekiki._async.funnel import Funnel
from mekiki._async.operation import AsyncOperation
from mekiki._values.dataset import ItemsLike, to_item_filter
from mekiki._values.trials import Configuration, TrialSeries
from mekiki._values.tuning import CompressionTuning
from mekiki._wire import asynchronous as wire
from mekiki.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc


class AsyncTrials:
    """Configurations of detectors, trained, measured and forgotten."""

    def __init__(self, channel: wire.Channel, funnel: Funnel) -> None:
        self._funnel = funnel
        self._stub = anomaly_pb2_grpc.AnomalyServiceStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)

    async def run_trials(
        self,
        configurations: Sequence[Configuration],
        items: ItemsLike,
        *,
        trial_count: int = 0,
        normal_labels: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> AsyncOperation[tuple[TrialSeries, ...]]:
        """Trains, fills and measures configurations of detectors with several seeds each, and keeps none of them.

        Args:
            configurations: 1 to 32, of distinct names.
            items: labelled ones that every trial is measured on, as by `evaluate_detector`.
            trial_count: of each configuration, 1 to 100, with seeds that follow on its own; default 3.
            normal_labels: default "good".
            timeout_s: deadline of starting it.
        """
        request = anomaly_pb2.RunTrialsRequest(
            configurations=[configuration.to_proto() for configuration in configurations],
            items=to_item_filter(items),
            normal_labels=normal_labels,
            trial_count=trial_count,
        )
        record = await self._funnel.start(self._stub.RunTrials, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def tune_compression(
        self,
        judge: Configuration,
        *,
        defects: ItemsLike | None = None,
        max_loss: float | None = None,
        min_crf: int | None = None,
        max_crf: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncOperation[CompressionTuning]:
        """Finds how far prepared images can be compressed before a detector that learns from them judges worse.

        Judged on normals that are held out and defects that are made on them; no test set is looked at. Nothing is
        kept: `encode_dataset` encodes at the rate factor that was found.

        Args:
            judge: the detector that is not to lose; its normals have form PREPARED, and at most 240 of them are used.
            defects: defective items, not those of the test; default: made on held-out normals.
            max_loss: of the area under the ROC curve, against images that were not compressed; default 0.005.
            min_crf: smallest rate factor to try; default 10 of HEVC, 20 of AV1.
            max_crf: largest rate factor to try; default 46 of HEVC, 60 of AV1.
            timeout_s: deadline of starting it.
        """
        request = anomaly_pb2.TuneCompressionRequest(
            judge=judge.to_proto(),
            defects=None if defects is None else to_item_filter(defects),
            max_loss=max_loss,
            min_crf=min_crf,
            max_crf=max_crf,
        )
        record = await self._funnel.start(self._stub.TuneCompression, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)
