"""What anomaly takes and gives: detectors, thresholds, scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from mekiki._values.annotation import Box, ModelRef, WeightsOrigin, time_of
from mekiki._values.engine import Engine, read_engine
from mekiki._values.image import Heatmap, ImageLike, to_image
from mekiki._values.word import word_of
from mekiki.anomaly.v1 import anomaly_pb2


@dataclass(frozen=True)
class Threshold:
    """A threshold with its promise."""

    value: float
    """An image whose score is above it is anomalous."""

    false_alarm_rate: float
    """The promise: at most this share of normals is called anomalous, 0 to 1."""

    confidence: float
    """The promise holds with this probability over the choice of the normals, 0 to 1."""

    normal_count: int
    bank_version: int
    create_time: datetime
    category: str = ""
    """The category of parts that it is for."""

    @classmethod
    def from_proto(cls, threshold: anomaly_pb2.Threshold) -> Self:
        """From the wire."""
        return cls(
            value=threshold.value,
            false_alarm_rate=threshold.false_alarm_rate,
            confidence=threshold.confidence,
            normal_count=threshold.normal_count,
            bank_version=threshold.bank_version,
            create_time=time_of(threshold.create_time),
            category=threshold.category,
        )


@dataclass(frozen=True)
class Drift:
    """A sequential test of whether the scores of images of one category that pass have risen since the calibration."""

    image_count: int
    """Images that were counted: those called normal."""

    evidence: float
    """For it, in this window, >= 0, 1 at its beginning; 1 / error signals drift."""

    error: float
    """Probability that a window signals drift where there is none, at most."""

    window: int
    """Images after which the evidence begins again at 1."""

    drifted: bool
    """Whether drift was signalled, in any window."""

    category: str = ""

    @classmethod
    def from_proto(cls, drift: anomaly_pb2.Drift) -> Self:
        """From the wire."""
        return cls(drift.image_count, drift.evidence, drift.error, drift.window, drift.drifted, drift.category)


class BankIndex(StrEnum):
    """How a bank finds the nearest vector."""

    EXACT = "exact"
    """Every vector that may match is compared."""

    LISTS = "lists"
    """Large segments are kept in lists, of which a search reads the few that are nearest."""


@dataclass(frozen=True)
class Detector:
    """A trained detector."""

    name: str
    version: int
    engine: Engine
    """With every default filled in."""

    weights: WeightsOrigin
    dataset: str
    encoding_id: str
    """Encoding whose preparation every image gets before it is judged; empty when images are judged as sent."""

    bank_version: int
    enrolled_count: int
    vector_count: int
    thresholds: Mapping[str, Threshold]
    """By category; empty until calibrated. A category that was enrolled since has none."""

    create_time: datetime
    serving: bool
    """Whether it is the version that the bare name means."""

    drift: Drift | None
    """As the replica that answers has seen it, of the category with the most evidence; None where it has judged none of
    the detector's images, or without threshold."""

    bank_index: BankIndex | None
    """None where the service does not say."""

    bank_recall: float | None
    """How often a search finds the nearest vector of the bank, at least, 0 to 1: 1 where every vector is compared."""

    categories: Mapping[str, int] = field(default_factory=dict)
    """Items in its bank by category; that of items enrolled without one is ""."""

    encoding_category: str = ""
    """Category of that encoding whose preparation every image gets; empty where the encoding has only one."""

    @property
    def threshold(self) -> Threshold | None:
        """That of its only category; None until calibrated, and where there are several: see `thresholds`."""
        known = self.categories.keys() | self.thresholds.keys()
        return self.thresholds.get(next(iter(known))) if len(known) == 1 else None

    @property
    def reference(self) -> str:
        """What to call this version wherever a detector is asked for, such as "screws@7", whatever serves."""
        return f"{self.name}@{self.version}"

    @classmethod
    def from_proto(cls, detector: anomaly_pb2.Detector) -> Self:
        """From the wire."""
        index = word_of(anomaly_pb2.BankIndex, detector.bank_index)
        return cls(
            name=detector.name,
            version=detector.version,
            engine=read_engine(detector),
            weights=WeightsOrigin.from_proto(detector.weights),
            dataset=detector.dataset,
            encoding_id=detector.encoding_id,
            encoding_category=detector.encoding_category,
            bank_version=detector.bank_version,
            enrolled_count=detector.enrolled_count,
            vector_count=detector.vector_count,
            thresholds={each.category: Threshold.from_proto(each) for each in detector.thresholds},
            create_time=time_of(detector.create_time),
            serving=detector.serving,
            drift=Drift.from_proto(detector.drift) if detector.HasField("drift") else None,
            bank_index=BankIndex(index) if index else None,
            bank_recall=detector.bank_recall if index else None,
            categories={each.name: each.enrolled_count for each in detector.categories},
        )


@dataclass(frozen=True, eq=False)
class EnrolledItem:
    """A normal to enrol."""

    item_id: str
    """Identifier in the bank: 1 to 255 bytes of UTF-8 without control characters."""

    image: ImageLike
    """As it would be sent to score_image. A prepared item of the detector's own encoding is taken as it is."""

    category: str = ""
    """The kind of part that it is, such as "m6-bolt"; empty where all are of one kind. A detector has 100 at most."""

    def to_proto(self) -> anomaly_pb2.EnrolledItem:
        """For the wire; reads the file where the image is a path."""
        return anomaly_pb2.EnrolledItem(item_id=self.item_id, image=to_image(self.image), category=self.category)


@dataclass(frozen=True)
class Enrolment:
    """What enrolling did."""

    bank_version: int
    """Version of the bank that holds all of them; 0 where there was nothing to enrol."""

    enrolled_count: int
    """Items that were new."""

    duplicate_count: int
    """Items that had been there."""


@dataclass(frozen=True)
class Forgetting:
    """What forgetting did."""

    bank_version: int
    """Version of the bank without them; 0 where there was nothing to forget."""

    forgotten_count: int
    """Items that had been there."""


class Verdict(StrEnum):
    """What a detector says of an image."""

    NORMAL = "normal"
    """The score is at most the threshold."""

    ANOMALOUS = "anomalous"
    """The score is above the threshold."""


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """How far an image is from the normals, and where."""

    score: float
    """>= 0; only comparable within one version of one detector."""

    verdict: Verdict | None
    """None until the category is calibrated; the score counts all the same."""

    threshold: float | None
    """The threshold that was used, that of the category; None until calibrated."""

    heatmap: Heatmap | None
    """Where, in the image as sent: distances of the same kind as the score; None when none was asked for."""

    region: Box | None
    """Around the strongest region, in pixels of the image as sent; None unless anomalous."""

    nearest_item_id: str
    """The enrolled normal that is nearest; empty where the engine has none."""

    model: ModelRef
    aligned: bool
    """False when the image did not align to the reference: its score is then high for that reason alone."""

    image_width: int
    image_height: int
    p_value: float | None
    """The share of normal images that score at least as high, never estimated too small; None until calibrated."""

    category: str = ""
    """The category that it was judged as; empty where its normals were enrolled without one."""

    @property
    def is_anomalous(self) -> bool:
        """Whether the verdict is anomalous; false while there is none."""
        return self.verdict is Verdict.ANOMALOUS

    @classmethod
    def from_proto(cls, response: anomaly_pb2.ScoreImageResponse) -> Self:
        """From the wire."""
        word = word_of(anomaly_pb2.Verdict, response.verdict)
        return cls(
            score=response.score,
            verdict=Verdict(word) if word else None,
            threshold=response.threshold if response.HasField("threshold") else None,
            heatmap=Heatmap.from_proto(response.heatmap) if response.HasField("heatmap") else None,
            region=Box.from_proto(response.region) if response.HasField("region") else None,
            nearest_item_id=response.nearest_item_id,
            model=ModelRef.from_proto(response.model),
            aligned=response.aligned,
            image_width=response.image_width,
            image_height=response.image_height,
            p_value=response.p_value if response.HasField("p_value") else None,
            category=response.category,
        )
