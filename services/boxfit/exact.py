"""The box with the highest IoU against a binary map, with the proof that no box is better.

For a box B and the set M of true pixels, IoU(B) = I / U with I = |B∩M| and U = |M| + |B| - I. Maximising a ratio is a
fractional programme (Dinkelbach, "On nonlinear fractional programming", Management Science 13, 1967): with p/q the best
IoU known, a box beats it exactly if q·I - p·U > 0, that is if

    sum over the box of (q if true else -p)  >  p·|M|,

so each round looks for the rectangle of maximum sum. If that sum is p·|M| the round has found nothing better: p/q is
the highest IoU there is, and the round is the proof. Otherwise p/q becomes the IoU of the box found; convergence is
superlinear, two or three rounds are usual.

The rectangle is found by branch and bound over pairs of row edges, the best columns for a pair by Kadane's scan
(Bentley, "Programming pearls: algorithm design techniques", CACM 27(9), 1984); bounding sets of boxes instead of
trying each is the idea of efficient subwindow search (Lampert, Blaschko and Hofmann, CVPR 2008). A node is a block of
top edges and a block of bottom edges. For one column, no pair in the node sums to more than the highest prefix sum
among the bottom edges minus the lowest among the top edges; a scan over these differences bounds the whole node. Blocks
are halved level by level; the scans of one block of top edges against its blocks of bottom edges run side by side.

Edges. Only places where two neighbouring rows (columns) differ can be edges of the box that is returned, rows and
columns outside the map counting as empty, so every run of equal rows is searched as one. Proof: let the box be the
first in order (x_min, y_min, x_max, y_max) among the best ones, and suppose its first column equals the one to the
left of it. Let s be the weight that this column has within the box's rows. If s >= 0, taking in the left column gives
a box at least as good that comes earlier; if s < 0, giving up the first column gives a better one. Suppose its last
column equals the one to the right of it: if s > 0, taking that in is better; if s <= 0, giving up the last column is at
least as good and comes earlier. (Giving up a column leaves a box, since the sum of the best one is p·|M| > 0 and so
cannot be s <= 0 alone.) Rows likewise. Outside of the tight box of the true pixels all rows and columns are equal,
being empty, so the search never leaves it.

Integers. With N pixels, p <= q <= N; a sum of weights, and every bound, is within ±(p+q)·N <= 2·N², which is below 2^63
for N < 2^31. In a soft map of up to V levels a pixel at level v counts v, and a pixel of a box V: V·N takes the place
of N. Bounds are kept in 32 bits, where a vector register holds twice as many: in units of a power of two, rounded
outwards, so that they stay bounds. The comparison of ratios never divides.
"""

import numpy as np

from services.boxfit.exact_search import find_best_box
from services.boxfit.fit import MAX_MAP_PIXELS, Box, Fit, Heat, Levels, Map, check_map
from services.runtime.errors import InvalidArgument

FULL = 255  # levels of a soft map


def fit_exact(ones: Map) -> Fit:
    """Find the box with the highest IoU; of several, the first in order (x_min, y_min, x_max, y_max).

    Args:
        ones: the binary map, (h, w) bool, any strides.

    Raises:
        InvalidArgument: the map is empty, not boolean, not two-dimensional or has 2^31 pixels or more.
    """
    check_map(ones)
    return _search(ones.view(np.uint8), 1)


def fit_soft(heat: Heat) -> Fit:
    """Find the box that agrees best with a soft map, without a threshold; ties as `fit_exact`.

    With h the map scaled to a maximum of 1 it maximises

        sum of h inside the box / (the box's area + sum of h outside of it),

    which is the Jaccard index of two fuzzy sets, sum of minima by sum of maxima (Ruzicka, 1958), and of a binary map
    the IoU. A row at the box's side is worth taking in where its mean is over J / (1 + J), J being the best value: the
    map sets its own threshold, under .5. Exact for h rounded to 255 levels (fewer above 8 million pixels).

    Args:
        heat: (h, w) float32, finite.

    Raises:
        InvalidArgument: the map is not two-dimensional, not finite, nowhere positive, or too large.
    """
    if heat.ndim != 2 or heat.size == 0 or not np.isfinite(heat).all():
        raise InvalidArgument("map", f"must be a finite (h, w) array, is {heat.dtype} of shape {heat.shape}")
    full = min(FULL, MAX_MAP_PIXELS // heat.size)
    peak = float(heat.max())
    if peak <= 0:
        raise InvalidArgument("map", f"must be positive somewhere, its maximum is {peak:g}")
    # In double precision, for the maximum may be as small as a float can be.
    levels = np.rint(np.maximum(heat, 0) * np.float64(full / peak)).astype(np.uint8)
    check_map(levels > 0)
    return _search(levels, full)


def _search(pixels: Levels, full: int) -> Fit:
    framed = np.zeros((pixels.shape[0] + 2, pixels.shape[1] + 2), dtype=np.uint8)
    framed[1:-1, 1:-1] = pixels
    rows = np.flatnonzero((framed[1:] != framed[:-1]).any(axis=1))  # edges: the map's rows[i]-1 and rows[i] differ
    columns = np.flatnonzero((framed[:, 1:] != framed[:, :-1]).any(axis=0))
    (top, left, bottom, right), inside, union, rounds = find_best_box(framed, rows, columns, rows * full)
    box = Box(int(columns[left]), int(rows[top]), int(columns[right]), int(rows[bottom]))
    return Fit(box=box, intersection=inside, union=union, evaluations=rounds, optimal=True)
