"""A trained classifier: what is in an image, and which pixels say so. Frozen once constructed, safe for any threads."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from services.runtime.errors import DataLoss, FailedPrecondition, InvalidArgument
from services.saliency import bundle, explain
from services.saliency.backbones import build_network
from services.saliency.calibration import Calibration
from services.saliency.eye import Eye
from services.saliency.network import Network
from services.saliency.pictures import convert_to_rgb, cut_centre, normalise, squeeze
from services.saliency.rules import Rule, eigen_cam, grad_cam, grad_cam_plus_plus, layer_cam
from services.saliency.triage import Filter, Sighting, Wish, choose_filter
from services.saliency.views import PLAIN_SCALES, View, average_maps, list_views

MAX_HEATMAP_SIDE = 4096  # cells
_FORMAT = 2  # of the saved form; a reader refuses what it does not know. 1 had no calibration


class Method(StrEnum):
    """How an image is explained. AUTO is CAM where the head allows it, else GRAD_CAM."""

    AUTO = "auto"
    CAM = "cam"
    GRAD_CAM = "grad_cam"
    GRAD_CAM_PLUS_PLUS = "grad_cam_plus_plus"
    LAYER_CAM = "layer_cam"
    EIGEN_CAM = "eigen_cam"


_RULES: dict[Method, Rule] = {
    Method.GRAD_CAM: grad_cam,
    Method.GRAD_CAM_PLUS_PLUS: grad_cam_plus_plus,
    Method.LAYER_CAM: layer_cam,
    Method.EIGEN_CAM: eigen_cam,
}


@dataclass(frozen=True)
class Prediction:
    """Probabilities by label, (k,) float32 in the order of `labels`; they add up to 1."""

    labels: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]

    @property
    def ranking(self) -> tuple[tuple[str, float], ...]:
        """All labels with their probabilities, most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return tuple((self.labels[index], float(self.probabilities[index])) for index in order)


@dataclass(frozen=True)
class Question:
    """What to explain in an image: "" asks for the most probable label, and for the last feature map.

    `heatmap_side` is the longer side of the map wanted, in cells, in the image's shape; 0 means the layer's own grid,
    of several scales that of the largest. The map is the average over the network's input scaled by each of `scales`,
    and with `flip` over their mirror images; `with_views` asks for the map of each, too.
    """

    label: str = ""
    method: Method = Method.AUTO
    layer: str = ""
    heatmap_side: int = 0
    scales: tuple[float, ...] = PLAIN_SCALES
    flip: bool = False
    with_views: bool = False


@dataclass(frozen=True)
class Explanation:
    """A heat map (h, w) float32 in [0, 1] over the whole image, for `label`, made by `method` (never AUTO).

    `views` are the maps that it is the average of, each on its own grid, where they were asked for.
    """

    heatmap: npt.NDArray[np.float32]
    label: str
    method: Method
    prediction: Prediction
    views: tuple[npt.NDArray[np.float32], ...] = ()

    @property
    def score(self) -> float:
        """The label's probability."""
        return float(self.prediction.probabilities[self.prediction.labels.index(self.label)])


class Classifier:
    """A network with names for its outputs.

    image → squeeze to the network's square → features (c, h, w) → mean → linear → softmax → probabilities
                                                       ↘ CAM or another method → heat map
    """

    def __init__(
        self,
        network: Network,
        labels: tuple[str, ...],
        device: torch.device,
        calibration: Calibration | None = None,
    ) -> None:
        self.labels = labels
        self.network = network
        self._device = device
        self._calibration = calibration or Calibration()
        self._memory = self._calibration.memory.to(device) if self._calibration.memory else None
        self._filters = functools.lru_cache(64)(self._choose_filter)
        self._eye = Eye(network, device)
        network.module.to(device).eval()
        for parameter in network.module.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def save(self) -> bytes:
        """Write all tensors and what is needed to rebuild the network. The same classifier gives the same bytes."""
        beside, told = self._calibration.pack()
        about = {
            "format": _FORMAT,
            "backbone": self.network.backbone,
            "input_size": self.network.input_format.size,
            "centre_of": self.network.input_format.centre_of,
            "labels": list(self.labels),
            "calibration": told,
        }
        return bundle.pack(self.network.module.state_dict() | beside, about)

    @classmethod
    def load(cls, data: bytes, device: torch.device) -> "Classifier":
        """Read what `save` wrote; it answers as the saved one, to the bit. Raises DataLoss for damaged bytes."""
        tensors, about = bundle.unpack(data)
        if about.get("format") not in (1, _FORMAT):
            raise DataLoss(f"a classifier of format {about.get('format')!r}; this version reads up to {_FORMAT}")
        calibration, own = Calibration.unpack(tensors, about.get("calibration", {}))
        return cls(_rebuild(own, about), tuple(about["labels"]), device, calibration)

    def classify(self, images: Sequence[npt.NDArray[np.generic]]) -> list[Prediction]:
        """Say what is in each image ((h, w) or (h, w, 1|3|4), uint8 or uint16), whatever their sizes.

        Raises InvalidArgument for an image of another type or shape.
        """
        if not images:
            return []
        return self._predict(explain.compute_logits(self._twin, self._compute_features(images)))

    def sight(self, images: Sequence[npt.NDArray[np.generic]]) -> list[Sighting]:
        """Say what is in each image, and how far it is from all that was trained on; images as for `classify`.

        Raises FailedPrecondition for a classifier that does not remember what it was trained on.
        """
        if self._memory is None:
            raise FailedPrecondition(
                "NO_HELD_OUT_ITEMS", "this classifier was trained before images could be filtered; train it again"
            )
        if not images:
            return []
        features = self._compute_features(images)
        distances = explain.compute_distances(self._twin, features, self._memory.measure).cpu().numpy()
        pairs = zip(self._predict(explain.compute_logits(self._twin, features)), distances, strict=True)
        return [Sighting(prediction.probabilities, float(distance)) for prediction, distance in pairs]

    def choose_filter(self, wish: Wish) -> Filter:
        """Choose how the wanted are told from others.

        Raises InvalidArgument for labels that cannot be wanted, FailedPrecondition NO_HELD_OUT_ITEMS where none of them
        was held out.
        """
        return self._filters(wish)

    def _choose_filter(self, wish: Wish) -> Filter:
        held_out = self._calibration.held_out
        return choose_filter(held_out, wish.find_wanted(self.labels), wish.recall, wish.confidence)

    def explain(self, images: Sequence[npt.NDArray[np.generic]], question: Question) -> list[Explanation]:
        """Say which pixels of each image speak for a label.

        Raises InvalidArgument for an unknown label, layer or side, or a method that the network does not allow.
        """
        method = self.check_question(question)
        if not images:
            return []
        # What the heat map covers is the whole image, even where its centre alone is classified.
        centred = self.classify(images) if self.network.input_format.centre_of else None
        asked = self._choose([question.label or said.ranking[0][0] for said in centred]) if centred else None
        asked = self._choose([question.label] * len(images)) if question.label else asked
        rule, plain = _RULES.get(method), self._eye.plain
        first, logits = self._eye.look(images, plain, asked, rule, question.layer)
        predictions = centred or self._predict(logits)
        labels = [question.label or said.ranking[0][0] for said in predictions]
        classes = self._choose(labels)
        maps = [
            first if view == plain else self._eye.look(images, view, classes, rule, question.layer)[0]
            for view in self._list_views(question)
        ]
        made = zip(images, zip(*maps, strict=True), labels, predictions, strict=True)
        return [
            _finish(image.shape, question, Explanation(average_maps(own), label, method, said, own))
            for image, own, label, said in made
        ]

    def check_question(self, question: Question) -> Method:
        """Give the method that will be used. Raises InvalidArgument for what this classifier cannot answer."""
        if question.label and question.label not in self.labels:
            known = ", ".join(self.labels[:20])
            raise InvalidArgument("label", f"{question.label!r} is none of this classifier's labels: {known}")
        if not 0 <= question.heatmap_side <= MAX_HEATMAP_SIDE:
            raise InvalidArgument("heatmap_side", f"{question.heatmap_side} is outside 0 to {MAX_HEATMAP_SIDE} cells")
        self._list_views(question)
        closed_form = self.network.cam_ready and not question.layer
        if question.method is Method.CAM and not closed_form:
            why = "CAM knows no layer but the last" if question.layer else "the head has no closed form"
            raise InvalidArgument("method", f"{why}; use GRAD_CAM")
        if question.method is Method.AUTO:
            return Method.CAM if closed_form else Method.GRAD_CAM
        return question.method

    @property
    def _twin(self) -> Network:
        return self._eye.folded.twin

    def _list_views(self, question: Question) -> tuple[View, ...]:
        return list_views(self.network.input_format.size, question.scales, flip=question.flip)

    def _choose(self, labels: Sequence[str]) -> torch.Tensor:
        """The classes of labels, (n,)."""
        return torch.tensor([self.labels.index(label) for label in labels], device=self._device)

    def _compute_features(self, images: Sequence[npt.NDArray[np.generic]]) -> torch.Tensor:
        return explain.compute_features(self._twin, self._look(images))

    def _look(self, images: Sequence[npt.NDArray[np.generic]]) -> torch.Tensor:
        """The input for classifying: whole images, or where the recipe says so, their centres."""
        form = self.network.input_format
        if not form.centre_of:
            return self._eye.feed(images, self._eye.plain)
        whole = [convert_to_rgb(image) for image in images]
        pictures = [cut_centre(squeeze(rgb, form.centre_of), rgb.shape[1] / rgb.shape[0], form.size) for rgb in whole]
        return normalise(np.stack(pictures), form.mean, form.std, self._device)

    def _predict(self, logits: torch.Tensor) -> list[Prediction]:
        rows = explain.compute_probabilities(logits.cpu().double() / self._calibration.temperature).numpy()
        return [Prediction(self.labels, row) for row in rows]


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into a device; auto takes the accelerator where there is one.

    Raises InvalidArgument for one that is not there.
    """
    found = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if found else "cpu")
    if name != "cpu" and not (found and re.fullmatch(r"cuda(:\d+)?", name)):
        raise InvalidArgument("device", f"must be auto, cpu or an accelerator of this machine, is {name!r}")
    return torch.device(name)


def _rebuild(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> Network:
    network = build_network(about["backbone"], len(about["labels"]), input_size=about["input_size"])
    form = dataclasses.replace(network.input_format, centre_of=about.get("centre_of", 0))
    network = dataclasses.replace(network, input_format=form)
    try:
        network.module.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataLoss(f"the saved tensors are not those of {about['backbone']!r}: {error}") from error
    return network


def fit_heatmap(shape: tuple[int, ...], side: int) -> tuple[int, int] | None:
    """Give (width, height) of a map whose longer side is `side`, in the shape of an image (h, w, ...); None for 0."""
    if side == 0:
        return None
    height, width = shape[:2]
    longer = max(height, width)
    return max(1, round(side * width / longer)), max(1, round(side * height / longer))


def _finish(shape: tuple[int, ...], question: Question, raw: Explanation) -> Explanation:
    size = fit_heatmap(shape, question.heatmap_side)
    views = tuple(explain.finish_heatmap(view, None) for view in raw.views) if question.with_views else ()
    return dataclasses.replace(raw, heatmap=explain.finish_heatmap(raw.heatmap, size), views=views)
