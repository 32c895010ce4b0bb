"""Where a picture certainly shows what, from what something trained says of each position."""

import numpy as np
import numpy.typing as npt

from services.saliency.pictures import Pixels
from services.saliency.recipe import Report
from services.saliency.segmentation.labelled import BACKGROUND, UNKNOWN, LabelledSet
from services.saliency.segmentation.losses import LEAST_SCORE
from services.saliency.segmentation.model import Segmenter

PHASE = "placing seeds"
LEAST_SHARE = 0.001  # of a picture: what a segmenter finds at least of each label that the picture shows
BATCH = 16  # pictures
DOUBT = 2.0  # log odds of a label against the background: above -DOUBT a position may yet show it


def choose_seeds(
    odds: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]
) -> Pixels:
    """Seeds of one picture, (h, w) uint8: BACKGROUND, the n-th label or UNKNOWN.

    Args:
        odds: log odds of each label that the picture shows, against the background, (m, h, w).
        labels: their numbers, (m,).
        shares: of the picture that each is found in at least, (m,): where nothing speaks for a label, it is put where
            most does.
    """
    least = np.array([np.quantile(each, 1 - share) for each, share in zip(odds, shares, strict=True)])
    above = odds - np.minimum(least, 0)[:, None, None]
    strongest = above.argmax(0)
    height = above.max(0)
    seeds = np.where(height > 0, labels[strongest] + 1, UNKNOWN)
    seeds[height < -DOUBT] = BACKGROUND
    return seeds.astype(np.uint8)


def ask_for_seeds(segmenter: Segmenter, data: LabelledSet, report: Report) -> Pixels:
    """What a segmenter of the same labels finds, of what each picture shows, (n, h, w) uint8."""
    total, side = len(data.pictures), data.pictures.shape[1] // segmenter.network.stride
    seeds = np.full((total, side, side), BACKGROUND, np.uint8)
    for start in range(0, total, BATCH):
        pictures = list(data.pictures[start : start + BATCH])
        for number, scores in enumerate(segmenter.score(pictures), start):
            labels = np.flatnonzero(data.present[number])
            if len(labels):
                logs = np.log(np.maximum(scores, LEAST_SCORE))
                seeds[number] = choose_seeds(logs[labels + 1] - logs[0], labels, np.full(len(labels), LEAST_SHARE))
        report(PHASE, start + len(pictures), total)
    return seeds
