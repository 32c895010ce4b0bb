"""Everything public, gathered: `mekiki` looks names up here when they are first used."""

from mekiki import errors
from mekiki._async.client import AsyncClient
from mekiki._async.operation import AsyncOperation
from mekiki._sync.client import Client
from mekiki._sync.operation import Operation
from mekiki._values.annotation import (
    Affine,
    Annotation,
    AnnotationState,
    Box,
    LabelScore,
    ModelRef,
    WeightsOrigin,
)
from mekiki._values.anomaly import (
    BankIndex,
    Detector,
    Drift,
    EnrolledItem,
    Enrolment,
    Forgetting,
    ScoredImage,
    Threshold,
    Verdict,
)
from mekiki._values.boxfit import (
    AnnotatedDataset,
    AnnotatedImage,
    BoxFit,
    FitMethod,
    FitOptions,
    FittedBox,
    ForegroundUse,
    MapLike,
    ObjectSearch,
)
from mekiki._values.calibration import BoxCalibration, CalibratedBoxes, ExplainOptions, LabelCalibration
from mekiki._values.classifier import (
    ClassifierEvaluation,
    ConfusionCell,
    Filter,
    FilteredImage,
    FilterVerdict,
    LabelFigures,
    Mistake,
)
from mekiki._values.dataset import Compaction, Damage, Dataset, ItemFilter, ItemsLike, Verification
from mekiki._values.detection import DetectedObject, Detection, ObjectDetector
from mekiki._values.encoding import (
    AlignmentMethod,
    BackgroundRemoval,
    CategoryGrouping,
    ChromaSampling,
    EncodedCategory,
    EncodedDataset,
    Encoding,
    EncodingOptions,
    ReferenceChoice,
    Transform,
    VideoCodec,
)
from mekiki._values.engine import Engine, MetricEngine, MetricLoss, MetricRecipe, PadimEngine, PatchEngine
from mekiki._values.evaluation import (
    Calibration,
    Evaluation,
    ItemScore,
    LabelEvaluation,
    PixelEvaluation,
    Rate,
    Shortcut,
)
from mekiki._values.frame import Answer, Frame
from mekiki._values.image import Heatmap, ImageLike, ItemForm, ItemRef, MaskFormat
from mekiki._values.item import Alignment, AppendedItem, Item, NewItem, PreparedImage, PreviewedItem, ReadItem
from mekiki._values.progress import Progress
from mekiki._values.saliency import Classification, Classifier, ClassifierRecipe, ExplainMethod, Explanation
from mekiki._values.segmentation import Segment, Segmentation, SegmentationEngine, SegmentationLoss, Segmenter
from mekiki._values.service import ServiceStatus
from mekiki._values.trials import Configuration, Trial, TrialSeries
from mekiki._values.tuning import CompressionTuning, RatePoint
from mekiki._wire.contexts import find_context
from mekiki._wire.credentials import Credentials
from mekiki._wire.policy import ClientOptions, RetryPolicy
from mekiki._wire.trimap import Trimap
from mekiki.errors import MekikiError

__all__ = [
    "Affine",
    "Alignment",
    "AlignmentMethod",
    "AnnotatedDataset",
    "AnnotatedImage",
    "Annotation",
    "AnnotationState",
    "Answer",
    "AppendedItem",
    "AsyncClient",
    "AsyncOperation",
    "BackgroundRemoval",
    "BankIndex",
    "Box",
    "BoxCalibration",
    "BoxFit",
    "CalibratedBoxes",
    "Calibration",
    "CategoryGrouping",
    "ChromaSampling",
    "Classification",
    "Classifier",
    "ClassifierEvaluation",
    "ClassifierRecipe",
    "Client",
    "ClientOptions",
    "Compaction",
    "CompressionTuning",
    "Configuration",
    "ConfusionCell",
    "Credentials",
    "Damage",
    "Dataset",
    "DetectedObject",
    "Detection",
    "Detector",
    "Drift",
    "EncodedCategory",
    "EncodedDataset",
    "Encoding",
    "EncodingOptions",
    "Engine",
    "EnrolledItem",
    "Enrolment",
    "Evaluation",
    "ExplainMethod",
    "ExplainOptions",
    "Explanation",
    "Filter",
    "FilterVerdict",
    "FilteredImage",
    "FitMethod",
    "FitOptions",
    "FittedBox",
    "ForegroundUse",
    "Forgetting",
    "Frame",
    "Heatmap",
    "ImageLike",
    "Item",
    "ItemFilter",
    "ItemForm",
    "ItemRef",
    "ItemScore",
    "ItemsLike",
    "LabelCalibration",
    "LabelEvaluation",
    "LabelFigures",
    "LabelScore",
    "MapLike",
    "MaskFormat",
    "MekikiError",
    "MetricEngine",
    "MetricLoss",
    "MetricRecipe",
    "Mistake",
    "ModelRef",
    "NewItem",
    "ObjectDetector",
    "ObjectSearch",
    "Operation",
    "PadimEngine",
    "PatchEngine",
    "PixelEvaluation",
    "PreparedImage",
    "PreviewedItem",
    "Progress",
    "Rate",
    "RatePoint",
    "ReadItem",
    "ReferenceChoice",
    "RetryPolicy",
    "ScoredImage",
    "Segment",
    "Segmentation",
    "SegmentationEngine",
    "SegmentationLoss",
    "Segmenter",
    "ServiceStatus",
    "Shortcut",
    "Threshold",
    "Transform",
    "Trial",
    "TrialSeries",
    "Trimap",
    "Verdict",
    "Verification",
    "VideoCodec",
    "WeightsOrigin",
    "errors",
    "find_context",
]
