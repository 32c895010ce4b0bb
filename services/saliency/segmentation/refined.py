"""What came after SEC: evidence in place of class activation maps, and then learning from pixels.

1. Heads that see little and heads that see much learn from the labels where pictures speak for them (`evidence.py`).
2. For each label the look that suits its objects says where they are: these are the seeds.
3. Of labels whose objects are wide, SEC says where they are: it spreads what it knows over what looks alike.
4. The segmenter learns from the seeds as if somebody had drawn them. What objects are small beside their picture
   counts as much as if they filled `LEAST_WEIGHT` of it.

What somebody drew takes the place of seeds.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from services.saliency.pictures import Pixels
from services.saliency.recipe import Report
from services.saliency.segmentation.course import Course, SegmentationSet
from services.saliency.segmentation.dense_crf import Edges
from services.saliency.segmentation.evidence import (
    COARSE,
    COMPACT,
    LOOKS,
    Eyes,
    choose_looks,
    compute_evidence_loss,
    widen,
)
from services.saliency.segmentation.features import Features
from services.saliency.segmentation.labelled import BACKGROUND, UNKNOWN, LabelledSet
from services.saliency.segmentation.network import SegmentationNetwork
from services.saliency.segmentation.recipe import Recipe, Watch, count_epochs
from services.saliency.segmentation.seeds import DECIDED, DOUBT, bring_to_edges, choose_seeds
from services.saliency.segmentation.seeds import PHASE as SEEDS_PHASE

EVIDENCE_EPOCHS = 16
EVIDENCE_RATE = 0.002
EMPTY_ODDS = 3.0  # pictures without labels are drawn as often as three labels together: they alone teach background
LEAST_WEIGHT = 0.3
LOOK_BATCH = 8  # pictures

EVIDENCE_PHASE, LOOKING_PHASE, PHASE = "looking for evidence", "looking at pictures", "training the segmenter"


@dataclass(frozen=True)
class EyeNetwork:
    """The eyes, what they look at, and what of them learns."""

    module: Eyes
    features: Features
    fresh: dict[str, nn.Parameter]
    pretrained: dict[str, nn.Parameter]

    @property
    def parts(self) -> tuple[list[nn.Parameter], ...]:
        """The heads: each has a loss of its own."""
        return tuple(list(head.parameters()) for head in self.module.heads)


def open_eyes(features: Features, classes: int, seed: int) -> EyeNetwork:
    """Eyes for what a body makes of the pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        eyes = Eyes(features.widths, classes).to(features.device)
    return EyeNetwork(eyes, features, dict(eyes.named_parameters()), {})


def train_eyes(eyes: EyeNetwork, data: LabelledSet, recipe: Recipe, watch: Watch) -> None:
    """Learns where pictures speak for their labels, in place."""
    epochs = count_epochs(EVIDENCE_EPOCHS, len(data.pictures), recipe.batch_size)
    usual = replace(recipe, epochs=epochs, learning_rate=EVIDENCE_RATE)
    nothing = np.empty((len(data.pictures), 0, 0), np.uint8)
    course = Course.begin(
        eyes, SegmentationSet(data.pictures, data.present, nothing, find_odds(data)), usual, watch, EVIDENCE_PHASE
    )
    for number in course.remaining_epochs():
        for batch, mirrored in course.draw_batches(number):
            present = torch.from_numpy(data.present[batch]).to(course.device)
            answers = eyes.module(eyes.features.read(batch, mirrored=mirrored))
            losses = [
                compute_evidence_loss(logits, present, widen(look, course.progress)).mean()
                for logits, look in zip(answers, LOOKS, strict=True)
            ]
            course.take_step(torch.stack(losses).sum())
        course.save(number)


def find_odds(data: LabelledSet) -> npt.NDArray[np.float64]:
    """Odds of each picture: every label is drawn as often as any other one."""
    counts = np.maximum(data.present.sum(0), 1)
    weights = np.where(data.present, 1 / counts, 0).max(1, initial=0)
    empty = ~data.present.any(1)
    weights[empty] = EMPTY_ODDS / max(1, empty.sum())
    odds: npt.NDArray[np.float64] = weights / weights.sum()
    return odds


def place_seeds(
    eyes: EyeNetwork, data: LabelledSet, side: int, edges: Edges, report: Report
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """What is known of each position, (n, side, side) uint8, and whether labels are wide, (k,).

    `edges` are those of the dense CRF.
    """
    sights = _look_at(eyes, data, side, edges, report)
    looks = np.array(choose_looks(sights.shown, sights.kept, data.present))
    seeds = np.full((len(data.pictures), side, side), BACKGROUND, np.uint8)
    for number, labels in enumerate(map(np.flatnonzero, data.present)):
        if len(labels):
            chosen = looks[labels]
            odds = sights.odds[number][chosen, np.arange(len(labels))].astype(np.float32)
            edged = chosen == COMPACT
            if edged.any():
                odds[edged], _ = bring_to_edges(odds[edged], data.pictures[number], edges)
            least = np.array([LOOKS[look].least for look in chosen])
            seeds[number] = choose_seeds(odds, labels, least, np.where(edged, DECIDED, DOUBT))
        report(SEEDS_PHASE, number + 1, len(seeds))
    return seeds, looks == COARSE


@dataclass(frozen=True)
class _Sights:
    """What eyes see.

    Attributes:
        shown: how much each picture shows each label, (looks, n, k).
        kept: how much of what the compact look shows the dense CRF leaves, (n, k).
        odds: of each picture, log odds of the m labels that it has against the background, (looks, m, side, side); of
            the compact look also at half the size, where it is surer.
    """

    shown: npt.NDArray[np.float64]
    kept: npt.NDArray[np.float64]
    odds: list[npt.NDArray[np.float16]]


def _look_at(eyes: EyeNetwork, data: LabelledSet, side: int, edges: Edges, report: Report) -> _Sights:
    """Looks at all pictures."""
    total, width = len(data.pictures), data.pictures.shape[1]
    sights = _Sights(np.zeros((len(LOOKS), *data.present.shape)), np.zeros(data.present.shape), [])
    for start in range(0, total, LOOK_BATCH):
        numbers = np.arange(start, min(start + LOOK_BATCH, total))
        pictures = data.pictures[numbers]
        answers = _ask(eyes, eyes.features.read(numbers, mirrored=False))
        halves = np.stack([cv2.resize(each, (width // 2,) * 2, interpolation=cv2.INTER_AREA) for each in pictures])
        compact = _enlarge(_ask(eyes, eyes.features.compute(halves))[COMPACT], side)
        for look, logits in enumerate(answers):
            share = max(1, int(LOOKS[look].share * logits[0, 0].numel()))
            surest = logits.softmax(1)[:, 1:].flatten(2).topk(share, -1).values
            sights.shown[look, numbers] = surest.mean(-1).cpu().numpy()
        grids = np.stack([_enlarge(logits, side) for logits in answers], 1)
        for number, grid, half in zip(numbers, grids, compact, strict=True):
            labels = np.flatnonzero(data.present[number])
            odds = grid[:, labels]
            if len(labels):
                _, sights.kept[number, labels] = bring_to_edges(odds[COMPACT], data.pictures[number], edges)
                odds[COMPACT] = np.maximum(odds[COMPACT], half[labels])
            sights.odds.append(odds.astype(np.float16))
        report(LOOKING_PHASE, int(numbers[-1]) + 1, total)
    return sights


def _ask(eyes: EyeNetwork, maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """Logits of each look."""
    with torch.no_grad():
        answers: list[torch.Tensor] = eyes.module(maps)
    return answers


def _enlarge(logits: torch.Tensor, side: int) -> npt.NDArray[np.float32]:
    """Log odds of each label against the background, (n, k, side, side)."""
    odds = logits[:, 1:] - logits[:, :1]
    grid: npt.NDArray[np.float32] = (
        functional.interpolate(odds, (side, side), mode="bilinear", align_corners=False).cpu().numpy()
    )
    return grid


def train_refined(
    network: SegmentationNetwork, data: SegmentationSet, recipe: Recipe, watch: Watch, features: Features | None
) -> None:
    """Trains a network on seeds, in place, going on from `watch.resume`; raises what `watch.report` raises.

    `features` are those of its body, None where that learns, too.
    """
    course = Course.begin(network, data, recipe, watch, PHASE)
    for number in course.remaining_epochs():
        for batch, mirrored in course.draw_batches(number):
            if features:
                logits = network.module.head(features.read(batch, mirrored=mirrored))
            else:
                logits = network.score(course.read_pictures(batch, mirrored=mirrored))
            course.take_step(_compute_loss(logits, course.read_seeds(batch, mirrored=mirrored)))
        course.save(number)


def _compute_loss(logits: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Cross entropy over what is known, mean over background and over objects of each picture apart."""
    losses = functional.cross_entropy(logits, seeds, reduction="none", ignore_index=UNKNOWN)
    inside = (seeds != BACKGROUND) & (seeds != UNKNOWN)
    outside = seeds == BACKGROUND
    weights = inside.float().mean((1, 2)).clamp_min(LEAST_WEIGHT)
    of_objects = (losses * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)
    of_background = (losses * outside).sum((1, 2)) / outside.sum((1, 2)).clamp_min(1)
    return (of_background + weights * of_objects).mean()
