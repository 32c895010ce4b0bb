"""Which pixels of a box are the part's, without a network: parts stand out from what they lie on."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mekiki import Box

_SIDE = 192  # it is searched at this size: quick, and no worse after smoothing
_ROUNDS = 3  # of GrabCut
_CLOSED = 0.07  # of the box's longer side: gaps up to this wide are part of the part, as gloss makes them
_OPENED = (0.12, 0.03)  # likewise: what hangs on a thinner thread is another part
_SHARES = (0.7, 1.0)  # of Otsu's threshold
_LEAST_SPAN = 0.85  # what spans less is not the part

Mask = NDArray[np.bool_]


def segment_part(crop: NDArray[np.uint8], box: Box) -> Mask | None:
    """Which pixels of a crop are those of the one part in a box; None where that cannot be told.

    First by how far a pixel's colour is from the surroundings', and by edges, at Otsu's threshold, gaps closed and
    holes filled; then GrabCut from there (Rother et al., SIGGRAPH 2004). Of what comes out, that is taken whose
    rim lies on the strongest edges, and that reaches farthest from end to end of the box. The hole of a nut counts as
    the nut, and a shadow may count as the part.

    Args:
        crop: the box with some of what is around it, (h, w, 3) uint8.
        box: where in the crop the part is.
    """
    scale = min(1.0, _SIDE / max(crop.shape[:2]))
    size = max(8, round(crop.shape[1] * scale)), max(8, round(crop.shape[0] * scale))
    small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    ends = np.rint(np.array([box.x_min, box.y_min, box.x_max, box.y_max]) * scale).astype(int).tolist()
    inside = Box(*ends)
    outside = np.ones(small.shape[:2], bool)
    outside[inside.y_min : inside.y_max, inside.x_min : inside.x_max] = False
    if not outside.any() or outside.all():
        return None
    edges = _find_edges(small)
    masks: list[Mask] = []
    for share in _SHARES:
        rough = _contrast(small, edges, outside, share)
        solid = _fill(rough, inside, _OPENED[0])
        masks += [_fill(mask, inside, width) for mask in (rough, _grab(small, solid, outside)) for width in _OPENED]
    plausible = [mask for mask in masks if _is_plausible(mask, inside)]
    if not plausible:
        return None
    best = max(plausible, key=lambda mask: _rate_rim(mask, edges) * _span(mask, inside) ** 2)
    whole = cv2.resize(best.astype(np.float32), (crop.shape[1], crop.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole >= 0.5)


def _find_edges(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Strength of edges, (h, w): of the channel where they are strongest."""
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1.0).astype(np.float32)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return np.asarray(np.hypot(across, down).max(axis=2), np.float32)


def _contrast(pixels: NDArray[np.uint8], edges: NDArray[np.float32], outside: Mask, share: float) -> Mask:
    """What differs from the surroundings, at a share of Otsu's threshold."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    far = np.linalg.norm(lab - np.median(lab[outside], axis=0), axis=2)
    evidence = np.clip(np.maximum(far * 2, edges / 2), 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(evidence[~outside], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    found: Mask = evidence > threshold * share
    found[outside] = False
    return found


def _grab(pixels: NDArray[np.uint8], rough: Mask, outside: Mask) -> Mask:
    """GrabCut from a rough mask; what is outside the box is background for certain."""
    labels = np.where(rough, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[outside] = cv2.GC_BGD
    if not rough.any():
        return rough
    cv2.setRNGSeed(0)  # its first clusters are drawn at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(pixels, labels, (0, 0, 1, 1), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)))


def _fill(mask: Mask, box: Box, opened: float) -> Mask:
    """The largest piece, its gaps closed, its holes filled; what hangs on it by a thread only is cut off."""
    side = max(box.width, box.height)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(_CLOSED * side), borderValue=0)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.asarray(cv2.drawContours(np.zeros_like(closed), outlines, -1, 1, cv2.FILLED), np.uint8)
    kept = cv2.morphologyEx(filled, cv2.MORPH_OPEN, _disc(opened * side))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(kept, connectivity=8)
    if count < 2:
        return np.zeros(filled.shape, bool)
    largest = (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    return np.asarray((cv2.dilate(largest, _disc(opened * side / 2)) > 0) & (filled > 0))  # its corners again


def _disc(diameter: float) -> NDArray[np.uint8]:
    side = 2 * round(diameter / 2) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _is_plausible(mask: Mask, box: Box) -> bool:
    """Whether a mask fills its box as a part does: neither all of it nor hardly any, nearly from end to end, in one."""
    inside = mask[box.y_min : box.y_max, box.x_min : box.x_max]
    if inside.size == 0 or not 0.12 <= inside.mean() <= 0.97 or inside.sum() < 25:
        return False
    return _span(mask, box) >= _LEAST_SPAN


def _span(mask: Mask, box: Box) -> float:
    """How far a mask reaches from end to end of a box, as a share, in the direction where it reaches less."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(min((np.ptp(rows) + 1) / box.height, (np.ptp(columns) + 1) / box.width)) if rows.size else 0.0


def _rate_rim(mask: Mask, edges: NDArray[np.float32]) -> float:
    """How strong the edges are that a mask's rim lies on, each pixel's share limited."""
    rim = mask & ~cv2.erode(mask.astype(np.uint8), _disc(3)).astype(bool)
    limit = float(np.percentile(edges, 90)) or 1.0
    return float(np.minimum(edges[rim] / limit, 1).mean())
