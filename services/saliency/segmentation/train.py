"""Learning to segment from labels alone.

SEC, the baseline:
1. A classifier learns the first label of each picture; normal pictures are one class more.
2. Its class activation maps give the seeds (`cues.py`).
3. The segmenter learns from the seeds, the labels and the edges (`sec.py`).

REFINED finds the seeds by other means, asks SEC only for what is wide, and learns from them as from masks
(`refined.py`). What somebody drew takes the place of seeds with either; where only some was, of those.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from services.saliency.model import Classifier, Question
from services.saliency.pictures import Pixels
from services.saliency.recipe import Recipe as ClassifierRecipe
from services.saliency.recipe import TrainingSet
from services.saliency.segmentation.course import SegmentationSet
from services.saliency.segmentation.cues import Maps, find_cues
from services.saliency.segmentation.features import Features, measure
from services.saliency.segmentation.labelled import BACKGROUND, UNKNOWN, LabelledSet, lay_over
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.network import SegmentationNetwork, SteadyBody, build_segmentation_network
from services.saliency.segmentation.recipe import Engine, Recipe, Watch
from services.saliency.segmentation.refined import find_odds, open_eyes, place_seeds, train_eyes, train_refined
from services.saliency.segmentation.sec import train_sec
from services.saliency.segmentation.seeds import ask_for_seeds, spread_seeds
from services.saliency.segmentation.stages import Stages, fingerprint_training
from services.saliency.train import train_classifier

NORMAL = ""  # what the classifier calls pictures that show no label
CUE_BATCH = 16  # pictures
PHASE, SPREADING_PHASE = "looking for cues", "spreading over what is wide"


def train_segmenter(
    data: LabelledSet,
    recipe: Recipe,
    *,
    weights: Path | None,
    device: torch.device,
    watch: Watch,
    base: Segmenter | None = None,
) -> Segmenter:
    """Train a segmenter. The same data, recipe and machine give the same network.

    `weights` is the backbone's safetensors file, None for the small network. Training goes on from `base`, of the same
    labels, backbone and input size: it says where the pictures show their labels, and learns on. `watch.resume`
    continues an interrupted training exactly; a checkpoint of other data or another recipe is ignored.
    Raises InvalidArgument for fewer than two kinds of pictures, or a kind with one, and what `watch.report` raises.
    """
    start = base.save() if base else weights.read_bytes() if weights else b""
    stages = Stages(watch, fingerprint_training(data, recipe, start))
    task = _Task(data, recipe, weights, device, stages)
    network = task.build(None if base else weights)
    body, features = network.module.body, None
    if base:
        network.module.load_state_dict(base.network.module.state_dict())
    elif isinstance(body, SteadyBody):  # what it makes of the pictures is measured, not learnt
        measure(body, network.network, data.pictures)
    elif recipe.engine is Engine.REFINED:
        task.learn_body(body)
    if isinstance(body, SteadyBody):
        features = Features(body, network.network, data.pictures)
    (seeds,) = stages.keep("seeds", lambda: (task.lay_over(task.find_seeds(network, features, base)),))
    told = SegmentationSet(data.pictures, data.present, seeds)
    if recipe.engine is Engine.SEC:
        train_sec(network, told, recipe, stages.open_watch())
    else:
        train_refined(network, replace(told, odds=find_odds(data)), recipe, stages.open_watch(), features)
    return Segmenter(network, data.labels, device)


@dataclass(frozen=True)
class _Task:
    """What a training is given."""

    data: LabelledSet
    recipe: Recipe
    weights: Path | None
    device: torch.device
    stages: Stages

    @property
    def side(self) -> int:
        """Of the grid of positions that the network scores."""
        return int(self.data.pictures.shape[1]) // self.recipe.stride

    def build(self, weights: Path | None) -> SegmentationNetwork:
        recipe = self.recipe
        network = build_segmentation_network(
            recipe.backbone,
            len(self.data.labels),
            input_size=int(self.data.pictures.shape[1]),
            stride=recipe.stride,
            local=recipe.local,
            weights=weights,
            seed=recipe.seed,
        )
        network.module.to(self.device)
        return network

    def lay_over(self, seeds: Pixels) -> Pixels:
        """Seeds with what somebody drew."""
        laid = seeds.copy()
        lay_over(laid, self.data)
        return laid

    def find_seeds(self, network: SegmentationNetwork, features: Features | None, base: Segmenter | None) -> Pixels:
        """What is known of each position before what somebody drew is laid over it, (n, side, side) uint8."""
        data, stages = self.data, self.stages
        if set(np.flatnonzero(data.present.any(1)).tolist()) <= set(data.masks):  # nothing to look for
            return np.full((len(data.pictures), self.side, self.side), BACKGROUND, np.uint8)
        if base:
            return ask_for_seeds(base, data, stages.open_watch().report)
        if self.recipe.engine is Engine.SEC:
            return self.find_cues()
        found = stages.keep("evidence", lambda: self.find_evidence(features or self.steady(network)))
        return self.spread(found) if found[1].any() else found[0]

    def learn_body(self, body: nn.Module) -> None:
        """A body that starts from nothing learns the labels first: seeds alone hardly teach it to tell kinds apart."""
        learnt = self.learn_labels().network.module.state_dict()
        body.load_state_dict({name: learnt[name.removeprefix("trunk.")] for name in body.state_dict()})

    def steady(self, network: SegmentationNetwork) -> Features:
        """What a body that will learn makes of the pictures now."""
        copied = copy.deepcopy(network)
        body = SteadyBody(copied.module.body, copied.module.widths)
        measure(body, copied.network, self.data.pictures)
        return Features(body, copied.network, self.data.pictures)

    def find_evidence(self, features: Features) -> tuple[Pixels, Pixels]:
        """Seeds, and which labels SEC is to be asked for, (k,)."""
        data, watch = self.data, self.stages.open_watch()
        eyes = open_eyes(features, len(data.labels), self.recipe.seed)
        train_eyes(eyes, data, self.recipe, watch)
        seeds, wide = place_seeds(eyes, data, self.side, self.recipe.edges, watch.report)
        undrawn = np.isin(np.arange(len(data.pictures)), list(data.masks), invert=True)
        known = np.isin(np.arange(len(data.labels)), data.mains)  # of the others a classifier learns nothing
        return seeds, (wide & known & data.present[undrawn].any(0)).astype(np.uint8)

    def spread(self, found: tuple[Pixels, ...]) -> Pixels:
        """Seeds with those of wide labels from SEC."""
        data, stages = self.data, self.stages
        sec = replace(self, recipe=replace(self.recipe, engine=Engine.SEC, learning_rate=None))
        (cues,) = stages.keep("cues", lambda: (self.lay_over(sec.find_cues()),))
        network = sec.build(self.weights)
        told = SegmentationSet(data.pictures, data.present, cues)
        train_sec(network, told, sec.recipe, stages.open_watch(), SPREADING_PHASE)
        segmenter = Segmenter(network, data.labels, self.device)
        return spread_seeds(segmenter, data, found, self.recipe.edges, stages.open_watch().report)

    def learn_labels(self) -> Classifier:
        """The classifier of the first labels of pictures; normal pictures are one more."""
        data = self.data

        def search() -> tuple[Pixels]:
            labels = tuple(data.labels[main] if main >= 0 else NORMAL for main in data.mains)
            told = TrainingSet(data.pictures, labels, data.groups)
            usual = ClassifierRecipe(backbone=self.recipe.backbone, seed=self.recipe.seed)
            watch = self.stages.open_watch()
            training = train_classifier(told, usual, weights=self.weights, device=self.device, watch=watch)
            learnt = Classifier(training.network, training.labels, self.device)
            return (np.frombuffer(learnt.save(), np.uint8).copy(),)

        (packed,) = self.stages.keep("classifier", search)
        return Classifier.load(packed.tobytes(), self.device)

    def find_cues(self) -> Pixels:
        """What is known of each position, (n, side, side) uint8: the class, or UNKNOWN."""
        data, classifier = self.data, self.learn_labels()
        total, side = len(data.pictures), self.side
        seeds = np.full((total, side, side), UNKNOWN, np.uint8)
        for start in range(0, total, CUE_BATCH):
            numbers = range(start, min(start + CUE_BATCH, total))
            for number, maps in zip(numbers, _explain(data, classifier, side, numbers), strict=True):
                cues = find_cues(maps, data.present[number])
                seeds[number][cues.any(0)] = cues.argmax(0)[cues.any(0)]
            self.stages.open_watch().report(PHASE, numbers.stop, total)
        return seeds


def _explain(data: LabelledSet, classifier: Classifier, side: int, numbers: Sequence[int]) -> npt.NDArray[np.float32]:
    """Maps of some pictures, (m, k, side, side); 0 for what a picture does not show, or none has as its first label."""
    maps: Maps = np.zeros((len(numbers), len(data.labels), side, side), np.float32)
    for index, label in enumerate(data.labels):
        places = [place for place, number in enumerate(numbers) if data.present[number, index]]
        if label in classifier.labels:
            told = classifier.explain([data.pictures[numbers[place]] for place in places], Question(label))
            for place, explanation in zip(places, told, strict=True):
                maps[place, index] = cv2.resize(explanation.heatmap, (side, side), interpolation=cv2.INTER_LINEAR)
    return maps
