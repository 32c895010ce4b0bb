"""How boxfit asks saliency: for maps of single views, which tell how sure a box is, or for masks."""

from dataclasses import dataclass

import cv2
import numpy as np

import mekiki
from mekiki import ExplainOptions

OUTLINE_SIDE = 320  # cells: a mask's pixels are searched on no finer grid


def explain(
    client: mekiki.Client, classifier: str, image: mekiki.ImageLike, label: str, options: ExplainOptions
) -> mekiki.Explanation:
    """Ask for the map of an image, by the sync client of a job."""
    return client.saliency.explain_image(
        classifier,
        image,
        label=label,
        method=options.method,
        layer=options.layer,
        scales=options.scales,
        flip=options.flip,
        with_views=True,
    )


async def explain_soon(
    client: mekiki.AsyncClient,
    classifier: str,
    image: mekiki.ImageLike,
    label: str,
    options: ExplainOptions,
    timeout_s: float | None,
) -> mekiki.Explanation:
    """Ask for the map of an image, by the async client of the service."""
    return await client.saliency.explain_image(
        classifier,
        image,
        label=label,
        method=options.method,
        layer=options.layer,
        scales=options.scales,
        flip=options.flip,
        with_views=True,
        timeout_s=timeout_s,
    )


@dataclass(frozen=True)
class Outline:
    """A segmenter's mask of one label, as a map."""

    label: str
    score: float
    heatmap: mekiki.Heatmap
    model: mekiki.ModelRef
    image_width: int
    image_height: int
    views: tuple[mekiki.Heatmap, ...] = ()


def outline(client: mekiki.Client, segmenter: str, image: mekiki.ImageLike, label: str) -> Outline:
    """Ask for the mask of a label, or of what an image shows most of; nothing is found where there is none."""
    found = client.saliency.segment_image(segmenter, image)
    segments = [segment for segment in found.segments if label in ("", segment.label)]
    largest = max(segments, key=lambda segment: segment.area_px, default=None)
    width, height = found.image_width, found.image_height
    if largest is None:
        return Outline(label, 0.0, mekiki.Heatmap(np.zeros((1, 1), np.float32)), found.model, width, height)
    scale = min(1.0, OUTLINE_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk = cv2.resize(largest.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    heatmap = mekiki.Heatmap(shrunk.astype(np.float32))
    return Outline(largest.label, largest.score, heatmap, found.model, width, height)
