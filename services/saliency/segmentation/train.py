"""Learning to segment from labels alone.

SEC, the baseline:
1. A classifier learns the first label of each picture; normal pictures are one class more.
2. Its class activation maps give the seeds (`cues.py`).
3. The segmenter learns from the seeds, the labels and the edges (`sec.py`).

REFINED finds the seeds by other means, and learns from them as from masks (`refined.py`). What somebody drew takes the
place of seeds with either; where only some was, of those.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from services.saliency.model import Classifier, Question
from services.saliency.pictures import Pixels
from services.saliency.recipe import Recipe as ClassifierRecipe
from services.saliency.recipe import TrainingSet
from services.saliency.segmentation.course import SegmentationSet
from services.saliency.segmentation.cues import Maps, find_cues
from services.saliency.segmentation.labelled import BACKGROUND, UNKNOWN, LabelledSet, lay_over
from services.saliency.segmentation.model import Segmenter
from services.saliency.segmentation.network import SegmentationNetwork, SteadyBody, build_segmentation_network
from services.saliency.segmentation.recipe import Engine, Recipe, Watch
from services.saliency.segmentation.refined import find_odds, measure, open_eyes, place_seeds, train_eyes, train_refined
from services.saliency.segmentation.sec import train_sec
from services.saliency.segmentation.seeds import ask_for_seeds
from services.saliency.segmentation.stages import Stages, fingerprint_training
from services.saliency.train import train_classifier

NORMAL = ""  # what the classifier calls pictures that show no label
CUE_BATCH = 16  # pictures
PHASE = "looking for cues"


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
    network = _build(data, recipe, None if base else weights, device)
    if base:
        network.module.load_state_dict(base.network.module.state_dict())
    elif isinstance(network.module.body, SteadyBody):  # what it makes of the pictures is measured, not learnt
        measure(network.module.body, data, network.input_format)
    start = base.save() if base else weights.read_bytes() if weights else b""
    stages = Stages.resume(watch, fingerprint_training(data, recipe, start))
    seeds = stages.seeds
    if seeds is None:
        seeds = _find_first_seeds(network, data, recipe, weights, device, stages.open_watch(), base)
        lay_over(seeds, data)
        stages = stages.turn(seeds)
    if recipe.engine is Engine.SEC:
        train_sec(network, SegmentationSet(data.pictures, data.present, seeds), recipe, stages.open_watch())
    else:
        told = SegmentationSet(data.pictures, data.present, seeds, find_odds(data))
        train_refined(network, told, recipe, stages.open_watch())
    return Segmenter(network, data.labels, device)


def _build(data: LabelledSet, recipe: Recipe, weights: Path | None, device: torch.device) -> SegmentationNetwork:
    network = build_segmentation_network(
        recipe.backbone,
        len(data.labels),
        input_size=int(data.pictures.shape[1]),
        stride=recipe.stride,
        local=recipe.local,
        weights=weights,
        seed=recipe.seed,
    )
    network.module.to(device)
    return network


def _find_first_seeds(
    network: SegmentationNetwork,
    data: LabelledSet,
    recipe: Recipe,
    weights: Path | None,
    device: torch.device,
    watch: Watch,
    base: Segmenter | None,
) -> Pixels:
    """What is known of each position before what somebody drew is laid over it, (n, side, side) uint8."""
    if set(np.flatnonzero(data.present.any(1)).tolist()) <= set(data.masks):  # nothing to look for
        side = int(data.pictures.shape[1]) // network.stride
        return np.full((len(data.pictures), side, side), BACKGROUND, np.uint8)
    if base:
        return ask_for_seeds(base, data, watch.report)
    if recipe.engine is Engine.SEC:
        return _find_seeds(data, recipe, weights, device, watch)
    return _find_evidence(network, data, recipe, device, watch)


def _find_evidence(
    network: SegmentationNetwork, data: LabelledSet, recipe: Recipe, device: torch.device, watch: Watch
) -> Pixels:
    if recipe.starts_from_nothing:  # what eyes see is learnt from the labels first; it takes little time
        network = _build(data, recipe, None, device)
        classifier = _train_classifier(data, recipe, None, device, Watch(watch.report))
        learnt = classifier.network.module.state_dict()
        body = network.module.body
        body.load_state_dict({name: learnt[name.removeprefix("trunk.")] for name in body.state_dict()})
    eyes = open_eyes(network, len(data.labels), recipe.seed)
    if recipe.starts_from_nothing:
        measure(eyes.module.body, data, network.input_format)
    train_eyes(eyes, data, recipe, watch)
    side = int(data.pictures.shape[1]) // network.stride
    return place_seeds(eyes, data, side, recipe.edges, watch.report)


def _train_classifier(
    data: LabelledSet, recipe: Recipe, weights: Path | None, device: torch.device, watch: Watch
) -> Classifier:
    labels = tuple(data.labels[main] if main >= 0 else NORMAL for main in data.mains)
    told = TrainingSet(data.pictures, labels, data.groups)
    usual = ClassifierRecipe(backbone=recipe.backbone, seed=recipe.seed)
    training = train_classifier(told, usual, weights=weights, device=device, watch=watch)
    return Classifier(training.network, training.labels, device)


def _find_seeds(data: LabelledSet, recipe: Recipe, weights: Path | None, device: torch.device, watch: Watch) -> Pixels:
    """What is known of each position, (n, side, side) uint8: the class, or UNKNOWN."""
    classifier = _train_classifier(data, recipe, weights, device, watch)
    total, side = len(data.pictures), int(data.pictures.shape[1]) // recipe.stride
    seeds = np.full((total, side, side), UNKNOWN, np.uint8)
    for start in range(0, total, CUE_BATCH):
        numbers = range(start, min(start + CUE_BATCH, total))
        for number, maps in zip(numbers, _explain(data, classifier, side, numbers), strict=True):
            cues = find_cues(maps, data.present[number])
            seeds[number][cues.any(0)] = cues.argmax(0)[cues.any(0)]
        watch.report(PHASE, numbers.stop, total)
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
