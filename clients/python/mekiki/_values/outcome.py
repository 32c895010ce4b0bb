"""What long work ends with: one table from the response that an operation carries to its value."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from google.longrunning import operations_pb2

from mekiki._values.anomaly import Detector
from mekiki._values.boxfit import AnnotatedDataset
from mekiki._values.calibration import CalibratedBoxes
from mekiki._values.dataset import Compaction, Verification
from mekiki._values.detection import ObjectDetector
from mekiki._values.encoding import EncodedDataset
from mekiki._values.evaluation import Calibration, Evaluation
from mekiki._values.saliency import Classifier
from mekiki._values.segmentation import Segmenter
from mekiki._values.trials import read_series
from mekiki._values.tuning import CompressionTuning
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.codec.v1 import codec_pb2
from mekiki.errors import Internal
from mekiki.saliency.v1 import saliency_pb2

_VALUES: Mapping[type[Any], Callable[[Any], object]] = MappingProxyType(
    {
        codec_pb2.EncodeDatasetResponse: EncodedDataset.from_proto,
        codec_pb2.CompactDatasetResponse: Compaction.from_proto,
        codec_pb2.VerifyDatasetResponse: Verification.from_proto,
        saliency_pb2.TrainClassifierResponse: lambda response: Classifier.from_proto(response.classifier),
        saliency_pb2.TrainObjectDetectorResponse: lambda done: ObjectDetector.from_proto(done.object_detector),
        saliency_pb2.TrainSegmenterResponse: lambda response: Segmenter.from_proto(response.segmenter),
        boxfit_pb2.AnnotateDatasetResponse: AnnotatedDataset.from_proto,
        boxfit_pb2.CalibrateBoxesResponse: CalibratedBoxes.from_proto,
        anomaly_pb2.TrainDetectorResponse: lambda response: Detector.from_proto(response.detector),
        anomaly_pb2.CalibrateDetectorResponse: Calibration.from_proto,
        anomaly_pb2.EvaluateDetectorResponse: Evaluation.from_proto,
        anomaly_pb2.RunTrialsResponse: read_series,
        anomaly_pb2.TuneCompressionResponse: CompressionTuning.from_proto,
    }
)


def outcome_of(record: operations_pb2.Operation) -> Any:  # noqa: ANN401 -- each verb ends with a value of its own
    """The value of an operation that ended well."""
    for kind, convert in _VALUES.items():
        if record.response.Is(kind.DESCRIPTOR):
            response = kind()
            record.response.Unpack(response)
            return convert(response)
    raise Internal(f"{record.name} ended with a {record.response.type_url!r}, which this SDK does not know")
