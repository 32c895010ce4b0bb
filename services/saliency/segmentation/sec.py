"""Learning to segment from cues: seed, expand, constrain.

Each step: scores of a few pictures, the same scores after the dense CRF, and the sum of the three losses (`losses.py`),
of which any may be left out. AdamW, warmed up and then falling along a cosine; pictures are mirrored at random, cues
with them.
"""

import cv2
import numpy as np
import numpy.typing as npt
import torch

from services.saliency.pictures import Pixels
from services.saliency.segmentation.course import Course, SegmentationSet
from services.saliency.segmentation.dense_crf import Edges, Scores, apply_crf
from services.saliency.segmentation.losses import (
    compute_constrain_loss,
    compute_expansion_loss,
    compute_seeding_loss,
)
from services.saliency.segmentation.network import SegmentationNetwork
from services.saliency.segmentation.recipe import Recipe, Watch

PHASE = "training the segmenter"


def train_sec(
    network: SegmentationNetwork, data: SegmentationSet, recipe: Recipe, watch: Watch, phase: str = PHASE
) -> None:
    """Trains a network in place, going on from `watch.resume`; raises what `watch.report` raises."""
    course = Course.begin(network, data, recipe, watch, phase)
    for number in course.remaining_epochs():
        for batch, mirrored in course.draw_batches(number):
            course.take_step(_compute_loss(network, course, batch, mirrored=mirrored))
        course.save(number)


def _compute_loss(
    network: SegmentationNetwork, course: Course, batch: npt.NDArray[np.int64], *, mirrored: bool
) -> torch.Tensor:
    """The sum of the losses that the recipe asks for, of pictures by number."""
    recipe = course.recipe
    pictures = course.read_pictures(batch, mirrored=mirrored)
    scores = network.score(pictures).softmax(1)
    parts = []
    if recipe.seeding:
        seeds = course.read_seeds(batch, mirrored=mirrored)
        cues = torch.stack([seeds == number for number in range(scores.shape[1])], 1)
        parts.append(compute_seeding_loss(scores, cues))
    if recipe.expansion:
        present = torch.from_numpy(course.data.present[batch]).to(scores.device)
        decays = recipe.present_decay, recipe.absent_decay, recipe.background_decay
        parts.append(compute_expansion_loss(scores, present, *decays))
    if recipe.constraint:
        parts.append(compute_constrain_loss(scores, constrain(scores, pictures, recipe.edges)))
    return torch.stack(parts).sum()


def constrain(scores: torch.Tensor, pictures: Pixels, edges: Edges) -> torch.Tensor:
    """The scores of pictures after the dense CRF on their own grid; learns nothing."""
    height, width = scores.shape[-2:]
    grids = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    values: Scores = scores.detach().cpu().numpy()
    smoothed = np.stack([apply_crf(one, grid, edges) for one, grid in zip(values, grids, strict=True)])
    return torch.from_numpy(smoothed).to(scores.device)
