"""Where a picture certainly shows what, from what something trained says of each position."""

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from services.saliency.pictures import Pixels
from services.saliency.recipe import Report
from services.saliency.segmentation.dense_crf import Edges, apply_crf
from services.saliency.segmentation.labelled import BACKGROUND, UNKNOWN, LabelledSet
from services.saliency.segmentation.losses import LEAST_SCORE
from services.saliency.segmentation.model import Segmenter

PHASE = "placing seeds"
LEAST_SHARE = 0.001  # of a picture: what a segmenter finds at least of each label that the picture shows
BATCH = 16  # pictures
SURE = 3.0  # log odds: what is said of a position, at most, where the dense CRF weighs it
LEAST_KEPT = 0.05  # of what is said of an object, by the dense CRF, where the picture has its edges
ERASED = 0.005  # of it, or less
LEAST_WIDE = 0.05  # of a picture: what is found at least of a label whose objects fill much
DOUBT = 2.0  # log odds of a label against the background: above -DOUBT a position may yet show it
DECIDED = 0.0  # the same where the dense CRF has decided


def choose_seeds(
    odds: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    doubts: npt.NDArray[np.float64] | float = DOUBT,
) -> Pixels:
    """Seeds of one picture, (h, w) uint8: BACKGROUND, the n-th label or UNKNOWN.

    Args:
        odds: log odds of each label that the picture shows, against the background, (m, h, w).
        labels: their numbers, (m,).
        shares: of the picture that each is found in at least, (m,): where nothing speaks for a label, it is put where
            most does.
        doubts: log odds against the background, (m,) or one for all: what is nearer to it is not known.
    """
    least = np.array([np.quantile(each, 1 - share) for each, share in zip(odds, shares, strict=True)])
    above = odds - np.minimum(least, 0)[:, None, None]
    strongest = above.argmax(0)
    height = above.max(0)
    seeds = np.where(height > 0, labels[strongest] + 1, UNKNOWN)
    seeds[(above < -np.broadcast_to(doubts, len(labels))[:, None, None]).all(0)] = BACKGROUND
    return seeds.astype(np.uint8)


def bring_to_edges(
    odds: npt.NDArray[np.float32], picture: Pixels, edges: Edges
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Log odds of labels against the background, (m, h, w), after the dense CRF, and how much it leaves of each, (m,).

    They are limited first, so that the picture may contradict them. Of what the CRF erases nothing is known: 0.
    """
    size = picture.shape[1::-1]
    limited = [cv2.resize(np.clip(each, -SURE, SURE), size, interpolation=cv2.INTER_LINEAR) for each in odds]
    scores = softmax(np.stack([np.zeros(picture.shape[:2], np.float32), *limited]), axis=0)
    after = apply_crf(scores, picture, edges)
    kept = after[1:].sum((1, 2)) / scores[1:].sum((1, 2))
    grid = odds.shape[:0:-1]
    told = _read_odds(np.stack([cv2.resize(each, grid, interpolation=cv2.INTER_AREA) for each in after]))
    brought = np.where(kept[:, None, None] < ERASED, 0, told)
    return brought.astype(np.float32), kept


def _read_odds(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log odds of each label against the background, (k, h, w), of probabilities (k + 1, h, w)."""
    logs = np.log(np.maximum(scores, LEAST_SCORE))
    odds: npt.NDArray[np.float32] = logs[1:] - logs[0]
    return odds


def ask_for_seeds(segmenter: Segmenter, data: LabelledSet, report: Report) -> Pixels:
    """What a segmenter of the same labels finds, of what each picture shows, (n, h, w) uint8."""
    total, side = len(data.pictures), data.pictures.shape[1] // segmenter.network.stride
    seeds = np.full((total, side, side), BACKGROUND, np.uint8)
    for start in range(0, total, BATCH):
        pictures = list(data.pictures[start : start + BATCH])
        for number, scores in enumerate(segmenter.score(pictures), start):
            labels = np.flatnonzero(data.present[number])
            if len(labels):
                odds = _read_odds(scores)[labels]
                seeds[number] = choose_seeds(odds, labels, np.full(len(labels), LEAST_SHARE))
        report(PHASE, start + len(pictures), total)
    return seeds


def spread_seeds(
    segmenter: Segmenter, data: LabelledSet, found: tuple[Pixels, ...], edges: Edges, report: Report
) -> Pixels:
    """Seeds (n, h, w) with those of wide labels in place of what was `found`: seeds, and whether labels are wide, (k,).

    They are what a segmenter of the same labels finds, brought to the edges of the pictures. Other labels stay as they
    were, and where they may yet be, nothing is taken for background.
    """
    seeds, wide = found[0].copy(), found[1].astype(bool)
    chosen = np.flatnonzero((data.present & wide).any(1))
    size = seeds.shape[:0:-1]
    for start in range(0, len(chosen), BATCH):
        numbers = chosen[start : start + BATCH]
        for number, scores in zip(numbers, segmenter.score(list(data.pictures[numbers])), strict=True):
            labels = np.flatnonzero(data.present[number] & wide)
            odds = np.stack([cv2.resize(each, size) for each in _read_odds(scores)[labels]])
            brought, kept = bring_to_edges(odds, data.pictures[number], edges)
            brought = np.where(kept[:, None, None] < LEAST_KEPT, odds, brought)  # without edges it stays as it is
            own = choose_seeds(brought, labels, np.full(len(labels), LEAST_WIDE), DECIDED)
            others = np.setdiff1d(np.flatnonzero(data.present[number]), labels)
            seeds[number] = _merge(seeds[number], own, others) if len(others) else own
        report(PHASE, start + len(numbers), len(chosen))
    return seeds


def _merge(before: Pixels, own: Pixels, others: npt.NDArray[np.int64]) -> Pixels:
    """Own seeds beside those of other labels, and nothing for background where these may yet be."""
    doubtful = np.where((own == BACKGROUND) & (before == UNKNOWN), UNKNOWN, own)
    return np.where(np.isin(before, others + 1), before, doubtful).astype(np.uint8)
