"""One vector a picture: what a backbone makes of it, or where that knows nothing yet, its thumbnail."""

from collections.abc import Callable

import cv2
import numpy as np
import torch

from services.saliency.network import Network
from services.saliency.pictures import Pixels, normalise

BATCH = 16
THUMBNAIL = 12  # pixels a side


def embed_pictures(
    network: Network, pictures: Pixels, device: torch.device, report: Callable[[int], None]
) -> torch.Tensor:
    """(n, s, s, 3) → (n, d): what goes into the last layer; `report` is told how many are done."""
    form, parts = network.input_format, []
    for start in range(0, len(pictures), BATCH):
        inputs = normalise(pictures[start : start + BATCH], form.mean, form.std, device)
        parts.append(embed_inputs(network, inputs))
        report(min(len(pictures), start + BATCH))
    return torch.cat(parts)


def embed_inputs(network: Network, inputs: torch.Tensor) -> torch.Tensor:
    """(n, 3, s, s) → (n, d)."""
    with torch.no_grad():
        features = network.module.forward_features(inputs)  # type: ignore[operator]
        embeddings: torch.Tensor = network.module.forward_head(features, pre_logits=True)  # type: ignore[operator]
    return embeddings


def embed_thumbnails(pictures: Pixels) -> torch.Tensor:
    """(n, s, s, 3) → (n, 432) float32: 12 x 12 pixels of each."""
    small = np.stack([_shrink(picture) for picture in pictures]).astype(np.float32)
    return torch.from_numpy(small).flatten(1)


def _shrink(picture: Pixels) -> Pixels:
    return np.asarray(cv2.resize(picture, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), dtype=np.uint8)
