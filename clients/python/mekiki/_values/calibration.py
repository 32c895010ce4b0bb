"""What people's boxes teach boxfit: plain data, returned by `calibrate_boxes` and passed to annotating."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from google.protobuf import json_format

from mekiki._values.annotation import ModelRef
from mekiki._values.boxfit import FitMethod, ForegroundUse
from mekiki._values.saliency import ExplainMethod
from mekiki._values.word import number_of, word_of
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2


@dataclass(frozen=True)
class ExplainOptions:
    """How annotating has an image explained."""

    method: ExplainMethod | None = None
    """Default CAM where the head allows it, else Grad-CAM."""

    layer: str = ""
    """All but CAM: a layer of the backbone; default the last convolution's output."""

    scales: tuple[float, ...] = ()
    """Of the network's input, to average over; default 1 alone."""

    flip: bool = True
    """Average over mirror images, too."""

    @classmethod
    def from_proto(cls, options: boxfit_pb2.ExplainOptions) -> Self:
        """From the wire."""
        word = word_of(saliency_pb2.ExplainMethod, options.method)
        flip = options.flip if options.HasField("flip") else True
        return cls(ExplainMethod(word) if word else None, options.layer, tuple(options.scales), flip)

    def to_proto(self) -> boxfit_pb2.ExplainOptions:
        """For the wire."""
        return boxfit_pb2.ExplainOptions(
            method=number_of(saliency_pb2.ExplainMethod, self.method or ""),
            layer=self.layer,
            scales=self.scales,
            flip=self.flip,
        )


@dataclass(frozen=True)
class LabelCalibration:
    """What people's boxes taught about the boxes of one label; "" is for labels without an entry of their own."""

    label: str
    threshold: float
    """A map becomes binary at this fraction of its maximum."""

    grow_left: float = 0.0
    """What the left side is moved outwards by, as a fraction of the box's width."""

    grow_top: float = 0.0
    grow_right: float = 0.0
    grow_bottom: float = 0.0
    box_count: int = 0
    """How many people's boxes this was learned from."""

    mean_iou: float = 0.0
    """With those boxes, each judged by what the others taught."""

    default_mean_iou: float = 0.0
    """With those boxes, at threshold 0.3 and without growth."""

    foreground: ForegroundUse = ForegroundUse.PLAIN_GROUND
    """Whether a box ends where what stands out from the image's rim does; before it grows."""


@dataclass(frozen=True)
class BoxCalibration:
    """What people's boxes taught."""

    model: ModelRef
    """The classifier whose maps it holds for."""

    explain: ExplainOptions
    method: FitMethod
    labels: tuple[LabelCalibration, ...]
    confidence_offset: float = 0.0
    """A score is 1 / (1 + exp(-(offset + slope * logit(raw score)))): the chance that a person accepts the box."""

    confidence_slope: float = 1.0
    judged_count: int = 0
    """How many accepted and rejected boxes the confidence was learned from."""

    @classmethod
    def from_proto(cls, calibration: boxfit_pb2.BoxCalibration) -> Self:
        """From the wire."""
        return cls(
            model=ModelRef.from_proto(calibration.model),
            explain=ExplainOptions.from_proto(calibration.explain),
            method=FitMethod(word_of(boxfit_pb2.FitMethod, calibration.method) or "exact"),
            labels=tuple(map(_from_label, calibration.labels)),
            confidence_offset=calibration.confidence_offset,
            confidence_slope=calibration.confidence_slope,
            judged_count=calibration.judged_count,
        )

    def to_proto(self) -> boxfit_pb2.BoxCalibration:
        """For the wire."""
        return boxfit_pb2.BoxCalibration(
            model=types_pb2.ModelRef(name=self.model.name, version=self.model.version),
            explain=self.explain.to_proto(),
            method=number_of(boxfit_pb2.FitMethod, self.method),
            labels=map(_to_label, self.labels),
            confidence_offset=self.confidence_offset,
            confidence_slope=self.confidence_slope,
            judged_count=self.judged_count,
        )

    def save(self, path: Path) -> None:
        """Writes it to a file, as JSON."""
        path.write_text(json_format.MessageToJson(self.to_proto(), always_print_fields_with_no_presence=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no calibration; names the file.
        """
        try:
            calibration = json_format.Parse(path.read_text(), boxfit_pb2.BoxCalibration())
        except (json_format.ParseError, ValueError) as error:
            raise ValueError(f"{path}: is no calibration of boxes ({error})") from error
        if not calibration.model.name:  # an empty list, too, is read as a message without fields
            raise ValueError(f"{path}: is no calibration of boxes (it names no classifier)")
        return cls.from_proto(calibration)


@dataclass(frozen=True)
class CalibratedBoxes:
    """What CalibrateBoxes did."""

    calibration: BoxCalibration
    item_count: int
    """Items that had boxes of people."""

    failures: Mapping[str, str]
    """Items that failed, each with the reason."""

    @classmethod
    def from_proto(cls, response: boxfit_pb2.CalibrateBoxesResponse) -> Self:
        """From the wire."""
        return cls(
            calibration=BoxCalibration.from_proto(response.calibration),
            item_count=response.item_count,
            failures=MappingProxyType({failure.item_id: failure.reason for failure in response.failures}),
        )


def _from_label(label: boxfit_pb2.LabelCalibration) -> LabelCalibration:
    return LabelCalibration(
        label=label.label,
        threshold=label.threshold,
        grow_left=label.grow_left,
        grow_top=label.grow_top,
        grow_right=label.grow_right,
        grow_bottom=label.grow_bottom,
        box_count=label.box_count,
        mean_iou=label.mean_iou,
        default_mean_iou=label.default_mean_iou,
        foreground=ForegroundUse(word_of(boxfit_pb2.ForegroundUse, label.foreground) or "plain_ground"),
    )


def _to_label(label: LabelCalibration) -> boxfit_pb2.LabelCalibration:
    return boxfit_pb2.LabelCalibration(
        label=label.label,
        threshold=label.threshold,
        grow_left=label.grow_left,
        grow_top=label.grow_top,
        grow_right=label.grow_right,
        grow_bottom=label.grow_bottom,
        box_count=label.box_count,
        mean_iou=label.mean_iou,
        default_mean_iou=label.default_mean_iou,
        foreground=number_of(boxfit_pb2.ForegroundUse, label.foreground),
    )
