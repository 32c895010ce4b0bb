"""From normal images to a `Model`: everything of a detector but its bank and its threshold."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.anomaly.backbones import SMALL_BACKBONE, Backbone, open_backbone
from services.anomaly.engines.defects import PartLocator
from services.anomaly.engines.engine import Engine
from services.anomaly.engines.examples import see_cells
from services.anomaly.engines.losses import ADACOS, L2_SOFTMAX, MetricLoss, open_loss
from services.anomaly.engines.metric import MetricEngine
from services.anomaly.engines.padim import PadimEngine
from services.anomaly.engines.patch import PatchEngine
from services.anomaly.engines.training import Journal, Lesson, train_metric
from services.anomaly.filters import FilterBank
from services.anomaly.frames import Framing, fit_area, resize, to_pixels, to_tensor
from services.runtime.errors import DataLoss, InvalidArgument

ORIGINAL, PATCHES = "original", "patches"  # recipes of engine `metric`: a vector per image, or one per cell
# Of Adam, for recipe `PATCHES`: a pretrained network sees defects already, and forgets how at higher rates.
_PRETRAINED_RATE, _UNTRAINED_RATE, _HEAD_RATE = 1e-5, 1e-3, 1e-3


@dataclass(frozen=True)
class PatchOptions:
    """Options of engine `patch`."""

    input_side_px: int  # longer side of what the network sees
    coreset_fraction: float = 0.1
    same_place: bool = False  # whether every image shows the part at the same place


@dataclass(frozen=True)
class MetricOptions:
    """Options of engine `metric`."""

    recipe: str = ORIGINAL  # of detectors from before there were recipes, too
    loss: str = ADACOS
    class_count: int = 3
    epochs: int = 10
    input_side_px: int = 224  # a square of this side has as many pixels as what the network sees
    same_place: bool = False  # of recipe `PATCHES`: whether every image shows the part at the same place


@dataclass(frozen=True)
class PadimOptions:
    """Options of engine `padim`."""

    input_side_px: int  # longer side of what the network sees
    dimension: int = 100  # channels that are kept


Options = PatchOptions | MetricOptions | PadimOptions
_KINDS: dict[str, type[Options]] = {"patch": PatchOptions, "metric": MetricOptions, "padim": PadimOptions}


@dataclass(frozen=True)
class Plan:
    """How a detector is built; with the tensors it is all of it."""

    options: Options
    backbone: str
    seed: int = 0

    @property
    def engine(self) -> str:
        """The engine's name."""
        return name_engine(self.options)


def name_engine(options: Options) -> str:
    """The name of the engine that these are options of."""
    return next(name for name, kind in _KINDS.items() if isinstance(options, kind))


def read_options(engine: str, values: Mapping[str, Any]) -> Options:
    """The options of an engine as `dataclasses.asdict` wrote them."""
    return _KINDS[engine](**values)


@dataclass(frozen=True)
class Model:
    """A trained embedder: plan, framing and engine."""

    plan: Plan
    framing: Framing
    engine: Engine
    tensors: dict[str, Tensor]  # of the network and the head, on the CPU


def train_model(
    plan: Plan,
    images: Iterable[NDArray[np.generic]],
    framing: Framing,
    weights: Path | None,
    device: torch.device,
    journal: Journal,
) -> Model:
    """Train the embedder of a detector on normal images.

    The engines patch and padim learn nothing with a pretrained backbone, and a scale with "small"; in the metric engine
    the network learns to tell normal from made-up defects.

    Args:
        plan: what to build.
        images: normal ones, prepared where `framing` has a mask; read once, and not at all where nothing is learned.
        framing: what of an image counts.
        weights: of the backbone; None for "small".
        device: to compute on.
        journal: called after every epoch.

    Raises:
        InvalidArgument: no images, or options that contradict each other.
    """
    backbone = _open_backbone(plan, weights)
    head = _open_head(plan, backbone)
    backbone.module().to(device)
    head.module().to(device)
    if isinstance(plan.options, MetricOptions):
        lesson = _plan_lesson(plan, plan.options, images, framing, pretrained=weights is not None)
        train_metric(backbone, head, lesson, journal)
    elif isinstance(backbone, FilterBank):
        _fit_filters(backbone, _open_engine(plan, framing, backbone, head), images, framing, device)
    return _assemble(plan, framing, backbone, head, device)


def _plan_lesson(
    plan: Plan, options: MetricOptions, images: Iterable[NDArray[np.generic]], framing: Framing, *, pretrained: bool
) -> Lesson:
    pixels, parts = collect_lesson(images, framing, lambda frame: fit_area(frame, options.input_side_px))
    lesson = Lesson(pixels, parts, options.class_count, options.epochs, seed=plan.seed)
    if options.recipe == ORIGINAL:
        return lesson
    rate = _PRETRAINED_RATE if pretrained else _UNTRAINED_RATE
    return replace(lesson, see=see_cells, learning_rate=rate, head_learning_rate=_HEAD_RATE)


def _fit_filters(
    filters: FilterBank,
    engine: Engine,
    images: Iterable[NDArray[np.generic]],
    framing: Framing,
    device: torch.device,
) -> None:
    """At the size at which patches will be compared."""

    def prepare() -> Iterator[Tensor]:
        shape = None
        for image in images:
            cut = framing.cut(image)
            shape = shape or engine.choose_input_shape(cut.shape[:2])
            yield to_tensor(resize(cut, shape)).to(device)

    if filters.fit(prepare()) == 0:
        raise InvalidArgument("items", "must select at least 1 normal image, got 0")


def _open_backbone(plan: Plan, weights: Path | None) -> Backbone:
    if plan.backbone == SMALL_BACKBONE and not isinstance(plan.options, MetricOptions):
        return FilterBank()
    return open_backbone(plan.backbone, weights, plan.seed)


def collect_lesson(
    images: Iterable[NDArray[np.generic]], framing: Framing, choose_shape: Callable[[tuple[int, int]], tuple[int, int]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """All images at one size (n, h, w, 3) with the mask of the part in each (n, h, w): the given one, or as located."""
    small: list[NDArray[np.uint8]] = []
    for image in images:
        cut = framing.cut(image)
        shape = small[0].shape[:2] if small else choose_shape(cut.shape[:2])
        small.append(to_pixels(resize(cut, shape)))
    if not small:
        raise InvalidArgument("items", "must select at least 1 normal image, got 0")
    pixels = np.stack(small)
    shape = pixels.shape[1:3]
    mask = framing.cut_mask()
    if mask is not None:
        part = resize(mask.astype(np.uint8), shape) > 0
        return pixels, np.broadcast_to(part, pixels.shape[:3])
    locator = PartLocator.of(pixels)
    return pixels, np.stack([locator.locate(image) for image in pixels])


def save_model(model: Model) -> bytes:
    """A safetensors file with the tensors and, in its header, the plan."""
    tensors = {name: value.contiguous() for name, value in model.tensors.items()}
    if model.framing.mask is not None:
        tensors["framing.mask"] = torch.from_numpy(model.framing.mask.astype(np.uint8))
    metadata = {"engine": model.plan.engine, "plan": json.dumps(asdict(model.plan))}
    return safetensors.torch.save(tensors, metadata=metadata)


def load_model(data: bytes, device: torch.device) -> Model:
    """The model that `save_model` wrote, ready on `device`.

    Raises:
        DataLoss: the bytes are damaged.
    """
    try:
        tensors = safetensors.torch.load(data)
        header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise DataLoss(f"a stored detector is damaged: {error}") from error
    plan = _parse_plan(header)
    mask = tensors.pop("framing.mask", None)
    framing = Framing(None if mask is None else mask.numpy().astype(np.bool_))
    backbone = _open_backbone(plan, None)
    head = _open_head(plan, backbone)
    nn.ModuleDict({"network": backbone.module(), "head": head.module()}).load_state_dict(tensors)
    return _assemble(plan, framing, backbone, head, device)


def _parse_plan(header: dict[str, Any]) -> Plan:
    values = json.loads(header["plan"])
    options = read_options(header["engine"], values["options"])
    return Plan(options, values["backbone"], values["seed"])


def _open_head(plan: Plan, backbone: Backbone) -> MetricLoss:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        if isinstance(plan.options, MetricOptions):
            whole = plan.options.recipe == ORIGINAL
            dimension = backbone.channels if whole else backbone.level_channels
            return open_loss(plan.options.loss, dimension, plan.options.class_count)
        return open_loss(ADACOS, backbone.channels, 3)


def _assemble(plan: Plan, framing: Framing, backbone: Backbone, head: MetricLoss, device: torch.device) -> Model:
    both = nn.ModuleDict({"network": backbone.module(), "head": head.module()})
    tensors = {name: value.detach().cpu().clone() for name, value in both.state_dict().items()}
    both.eval().requires_grad_(requires_grad=False).to(device)
    return Model(plan, framing, _open_engine(plan, framing, backbone, head), tensors)


def _open_engine(plan: Plan, framing: Framing, backbone: Backbone, head: MetricLoss) -> Engine:
    options = plan.options
    if isinstance(options, MetricOptions) and options.recipe == ORIGINAL:
        by_outlier_factor = options.loss == L2_SOFTMAX
        return MetricEngine(backbone, head, options.input_side_px, by_outlier_factor=by_outlier_factor)
    mask = framing.cut_mask()
    frame = None if mask is None else (mask.shape[0], mask.shape[1])
    if isinstance(options, PadimOptions):
        return PadimEngine(backbone, options.input_side_px, options.dimension, plan.seed, frame)
    # Images that are not prepared are stretched to a square.
    place = (frame or (1, 1)) if options.same_place else None
    if isinstance(options, MetricOptions):
        fraction = PatchOptions.coreset_fraction
        return PatchEngine(backbone, options.input_side_px, fraction, place, fit=fit_area, by_angle=True)
    return PatchEngine(backbone, options.input_side_px, options.coreset_fraction, place)
