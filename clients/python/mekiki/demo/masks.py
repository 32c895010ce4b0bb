"""Outlines without drawing: a segmenter from labels alone says which pixels show the part."""

import numpy as np

from mekiki import Client, Frame, ImageLike, Segmentation
from mekiki.demo.boxes import Task
from mekiki.demo.narrator import Narrator
from mekiki.demo.results import Masked, Masks
from mekiki.demo.source import Labelled, Photo, read_pixels, read_truth
from mekiki.demo.steps import Weights

INPUT_SIZE = 224
OWN_IMAGES = "of images of your own `mekiki train segmenter` learns outlines, which takes some minutes more."
NO_WEIGHTS = "without pretrained weights labels alone teach outlines too little."


def draw_masks(
    client: Client, segmenter: str, task: Task, labelled: Labelled, weights: Weights, narrator: Narrator
) -> Masks:
    """Train the segmenter on the labelled images, and find the pixels of each one's label.

    Raises:
        MekikiError: training failed, or an image could not be looked at.
    """
    with narrator.step("Train the segmenter") as bar:
        operation = client.saliency.train_segmenter(
            segmenter,
            task.taught,
            normal_labels=task.skip_labels,
            backbone=weights.backbone,
            input_size=INPUT_SIZE,
        )
        trained = bar.watch(operation)
    shown = [photo for photo in labelled.photos if photo.label not in task.skip_labels]
    with narrator.step("Find the pixels", len(shown)) as bar:
        files: list[ImageLike | Frame[ImageLike]] = [Frame(photo.path.read_bytes(), photo.item_id) for photo in shown]
        masked = []
        for photo, answer in zip(shown, client.saliency.segment_images(segmenter, files), strict=True):
            masked.append(_as_masked(photo, answer.value))
            bar.advance()
    return Masks(trained.labels, tuple(masked))


def _as_masked(photo: Photo, found: Segmentation) -> Masked:
    pixels = read_pixels(photo.path)
    mask, score = np.zeros(pixels.shape[:2], np.bool_), 0.0
    for segment in found.segments:
        if segment.label == photo.label:
            mask, score = segment.mask, segment.score
    return Masked(photo.item_id, photo.label, mask, score, pixels, read_truth(photo, pixels.shape))
