"""Between the messages about segmenters and their values."""

import math
from datetime import datetime

import cv2
import numpy as np

from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.runtime.images import encode_mask, encode_runs
from services.saliency.backbones import DEFAULT_BACKBONE, hub_repo
from services.saliency.detection.recipe import (
    MIN_INPUT_SIZE,
    find_default_size,
)
from services.saliency.messages import check_seed, check_side
from services.saliency.messages import read_name as read_any_name
from services.saliency.segmentation.catalogue import Entry
from services.saliency.segmentation.drawing import Segmentation
from services.saliency.segmentation.recipe import Engine, Recipe

_ENGINES = {
    saliency_pb2.SEGMENTATION_ENGINE_UNSPECIFIED: Engine.REFINED,
    saliency_pb2.SEGMENTATION_ENGINE_SEC: Engine.SEC,
    saliency_pb2.SEGMENTATION_ENGINE_REFINED: Engine.REFINED,
}
_ENGINE_NUMBERS = {engine: number for number, engine in _ENGINES.items()}
_LOSSES = {
    saliency_pb2.SEGMENTATION_LOSS_SEEDING: "seeding",
    saliency_pb2.SEGMENTATION_LOSS_EXPANSION: "expansion",
    saliency_pb2.SEGMENTATION_LOSS_CONSTRAINT: "constraint",
}
_ENCODERS = {
    types_pb2.MASK_FORMAT_UNSPECIFIED: encode_runs,
    types_pb2.MASK_FORMAT_RLE: encode_runs,
    types_pb2.MASK_FORMAT_PNG: encode_mask,
}


def read_name(name: str) -> str:
    """Give a segmenter's name. Raises InvalidArgument where it is none."""
    return read_any_name(name, "segmenter")


def read_recipe(request: saliency_pb2.TrainSegmenterRequest) -> Recipe:
    """Give the recipe asked for, defaults filled in. Raises InvalidArgument naming the field."""
    usual, has = Recipe(), request.HasField
    hub_repo(request.backbone or DEFAULT_BACKBONE)  # refuses an unknown one
    if request.engine not in _ENGINES:
        raise InvalidArgument("engine", f"{request.engine} is no SegmentationEngine")
    left_out = _read_losses(request)
    return Recipe(
        backbone=request.backbone or DEFAULT_BACKBONE,
        epochs=request.epochs if has("epochs") else usual.epochs,
        learning_rate=request.learning_rate if has("learning_rate") else None,
        batch_size=request.batch_size if has("batch_size") else usual.batch_size,
        present_decay=request.present_decay if has("present_decay") else usual.present_decay,
        absent_decay=request.absent_decay if has("absent_decay") else usual.absent_decay,
        background_decay=request.background_decay if has("background_decay") else usual.background_decay,
        seed=check_seed(request.seed),
        seeding="seeding" not in left_out,
        expansion="expansion" not in left_out,
        constraint="constraint" not in left_out,
        engine=_ENGINES[request.engine],
    )


def settle(request: saliency_pb2.TrainSegmenterRequest, base: Entry) -> saliency_pb2.TrainSegmenterRequest:
    """Give the request with what a training that goes on has from the version it goes on from.

    Raises InvalidArgument naming the field where the request asks for something else.
    """
    settled = saliency_pb2.TrainSegmenterRequest()
    settled.CopyFrom(request)
    about = base.about
    given = {"engine": request.engine, "backbone": request.backbone}
    wanted = {"engine": _ENGINE_NUMBERS[Engine(about.engine)], "backbone": about.backbone}
    if request.HasField("input_size"):
        given["input_size"] = request.input_size
    wanted["input_size"] = about.input_size
    for field, value in wanted.items():
        if given.get(field) not in (None, 0, "", value):
            which = f"that of version {base.version}, from which training goes on"
            raise InvalidArgument(field, f"must be {value}, {which}, is {given[field]}")
        setattr(settled, field, value)
    return settled


def _read_losses(request: saliency_pb2.TrainSegmenterRequest) -> set[str]:
    unknown = [number for number in request.left_out_losses if number not in _LOSSES]
    if unknown:
        raise InvalidArgument("left_out_losses", f"{unknown[0]} is no SegmentationLoss that can be left out")
    left_out = {_LOSSES[number] for number in request.left_out_losses}
    if len(left_out) == len(_LOSSES):
        raise InvalidArgument("left_out_losses", f"must be at most {len(_LOSSES) - 1}, are all {len(_LOSSES)}")
    return left_out


def read_input_size(request: saliency_pb2.TrainSegmenterRequest) -> int:
    """Give the side of the network's square, pixels. Raises InvalidArgument outside its limits or off its step."""
    if not request.HasField("input_size"):
        return find_default_size(request.backbone or DEFAULT_BACKBONE)
    return check_side(request.input_size, MIN_INPUT_SIZE)


def check_question(request: saliency_pb2.SegmentImageRequest) -> None:
    """Refuse, with InvalidArgument naming the field, how masks and areas cannot be told."""
    if request.mask_format not in _ENCODERS:
        raise InvalidArgument("mask_format", f"{request.mask_format} is no MaskFormat")
    side = request.pixel_size_mm
    if request.HasField("pixel_size_mm") and not (side > 0 and math.isfinite(side)):
        raise InvalidArgument("pixel_size_mm", f"must be above 0, is {side:g}")


def write_segmenter(entry: Entry) -> saliency_pb2.Segmenter:
    """Describe a version."""
    about = entry.about
    message = saliency_pb2.Segmenter(
        name=entry.name,
        version=entry.version,
        labels=about.labels,
        engine=_ENGINE_NUMBERS[Engine(about.engine)],
        weights=types_pb2.WeightsOrigin(
            backbone=about.backbone, source=about.weights_source, description=about.weights_description
        ),
        input_size=about.input_size,
        train_count=about.train_count,
        left_out_count=about.left_out_count,
        masked_count=about.masked_count,
    )
    message.create_time.FromDatetime(datetime.fromisoformat(about.create_time))
    return message


def write_segments(
    found: Segmentation, request: saliency_pb2.SegmentImageRequest, entry: Entry
) -> saliency_pb2.SegmentImageResponse:
    """Answer SegmentImage."""
    height, width = found.classes.shape
    areas = np.bincount(found.classes.ravel(), minlength=len(entry.about.labels) + 1)
    return saliency_pb2.SegmentImageResponse(
        segments=[
            _write_segment(found, number, label, request)
            for number, label in enumerate(entry.about.labels, 1)
            if areas[number]
        ],
        model=types_pb2.ModelRef(name=entry.name, version=entry.version),
        image_width=width,
        image_height=height,
    )


def _write_segment(
    found: Segmentation, number: int, label: str, request: saliency_pb2.SegmentImageRequest
) -> saliency_pb2.Segment:
    mask = found.classes == number
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    area = int(np.count_nonzero(mask))
    return saliency_pb2.Segment(
        label=label,
        mask=_ENCODERS[request.mask_format](mask),
        box=types_pb2.Box(x_min=left, y_min=top, x_max=left + width, y_max=top + height),
        area_px=area,
        area_mm2=area * request.pixel_size_mm**2 if request.HasField("pixel_size_mm") else None,
        score=float(found.probabilities[mask].mean(dtype=np.float64)),
    )
