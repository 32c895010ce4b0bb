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
among the bottom edges minus the lowest among the top edges; a scan over these differences bounds the whole node.

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
for N < 2^31. The comparison of ratios never divides.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from services.boxfit.fit import Box, Fit, Map, check_map

Ints = NDArray[np.int64]
Corners = tuple[int, int, int, int]  # top, left, bottom, right, as indices into row and column edges
F = TypeVar("F", bound=Callable[..., object])


def _compiled(function: F) -> F:
    """Compile with numba, free of the GIL, cached on disk; all compiled code is here, for the cache tracks one file.

    Compiled functions take their arguments by position alone, hence their boolean ones.
    """
    try:
        return cast("F", njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder can be written to (NUMBA_CACHE_DIR names one): compile at every start
        return cast("F", njit(nogil=True)(function))


def fit_exact(ones: Map) -> Fit:
    """Find the box with the highest IoU; of several, the first in order (x_min, y_min, x_max, y_max).

    Args:
        ones: the binary map, (h, w) bool, any strides.

    Raises:
        InvalidArgument: the map is empty, not boolean, not two-dimensional or has 2^31 pixels or more.
    """
    check_map(ones)
    framed = np.zeros((ones.shape[0] + 2, ones.shape[1] + 2), dtype=np.bool_)
    framed[1:-1, 1:-1] = ones
    rows = np.flatnonzero((framed[1:] != framed[:-1]).any(axis=1))  # edges: the map's rows[i]-1 and rows[i] differ
    columns = np.flatnonzero((framed[:, 1:] != framed[:, :-1]).any(axis=0))
    (top, left, bottom, right), inside, union, rounds = _solve(framed, rows, columns)
    box = Box(int(columns[left]), int(rows[top]), int(columns[right]), int(rows[bottom]))
    return Fit(box=box, intersection=inside, union=union, evaluations=rounds, optimal=True)


@_compiled
def _solve(framed: Map, rows: Ints, columns: Ints) -> tuple[Corners, int, int, int]:
    """Return the best box as edge indices, its intersection and union, and the number of rounds."""
    counts = _count_ones(framed, rows, columns)
    # Pairs are taken along the axis with fewer edges, since their number grows with its square.
    turned = len(rows) > len(columns)
    if turned:
        counts, rows, columns = counts.T.copy(), columns, rows
    box, rounds = _climb(counts, rows, columns, turned)
    inside, union = _measure(counts, rows, columns, box)
    if turned:
        box = (box[1], box[0], box[3], box[2])
    return box, inside, union, rounds


@_compiled
def _climb(counts: Ints, rows: Ints, columns: Ints, turned: bool) -> tuple[Corners, int]:  # noqa: FBT001
    """Dinkelbach's rounds, from a locally best box to the proof that the last one is the best."""
    starts = _lay_out_levels(len(rows))
    box = _find_start(counts, rows, columns)
    rounds = 0
    while True:
        rounds += 1
        p, q = _measure(counts, rows, columns, box)
        target = p * counts[-1, -1]
        low, high = _bound_blocks(_weigh(counts, rows, columns, p, q), starts)
        best, box = _search(low, high, starts, target, box, turned)
        if best == target:
            return box, rounds
        box = _improve_locally(counts, rows, columns, box)


@_compiled
def _find_start(counts: Ints, rows: Ints, columns: Ints) -> Corners:
    """The best of what local improvement makes of the tight box and of its quarters; often the best box already."""
    bottom, right = len(rows) - 1, len(columns) - 1
    best = _improve_locally(counts, rows, columns, (0, 0, bottom, right))
    best_inside, best_union = _measure(counts, rows, columns, best)
    for quarter in range(4):
        box = (
            bottom // 2 * (quarter // 2),
            right // 2 * (quarter % 2),
            bottom if quarter // 2 else (bottom + 1) // 2,
            right if quarter % 2 else (right + 1) // 2,
        )
        box = _improve_locally(counts, rows, columns, box)
        inside, union = _measure(counts, rows, columns, box)
        if inside * best_union > best_inside * union:
            best, best_inside, best_union = box, inside, union
    return best


@_compiled
def _count_ones(framed: Map, rows: Ints, columns: Ints) -> Ints:
    """Integral image of the true pixels over the grid of edges, (rows, columns) int64."""
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for i in range(1, len(rows)):
        height = rows[i] - rows[i - 1]
        line = 0
        for j in range(1, len(columns)):
            if framed[rows[i], columns[j]]:  # the frame shifts by one: the last pixel of the cell
                line += height * (columns[j] - columns[j - 1])
            counts[i, j] = counts[i - 1, j] + line
    return counts


@_compiled
def _measure(counts: Ints, rows: Ints, columns: Ints, box: Corners) -> tuple[int, int]:
    """Intersection and union of a box and the map, in pixels."""
    top, left, bottom, right = box
    inside = counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
    area = (rows[bottom] - rows[top]) * (columns[right] - columns[left])
    return inside, counts[-1, -1] + area - inside


@_compiled
def _find_run(weights: Ints) -> tuple[int, int, int]:
    """Kadane's scan: the highest sum of a run, and the run, half open; of several the first start, then first end."""
    best, best_start, best_end = weights[0], 0, 1
    total, start = 0, 0
    for k in range(len(weights)):
        if total < 0:
            total, start = 0, k
        total += weights[k]
        if total > best:
            best, best_start, best_end = total, start, k + 1
    return best, best_start, best_end


@_compiled
def _improve_locally(counts: Ints, rows: Ints, columns: Ints, box: Corners) -> Corners:
    """Take in turn the best columns for the box's rows and the best rows for its columns while the IoU grows.

    One step costs as much as bounding a few nodes of the search, and it saves most rounds.
    """
    idle = 0
    across = True
    while idle < 2:
        top, left, bottom, right = box
        p, q = _measure(counts, rows, columns, box)
        if across:
            height = rows[bottom] - rows[top]
            best, left, right = _find_run(_weigh_lines(counts[top], counts[bottom], columns, height, p, q))
        else:
            width = columns[right] - columns[left]
            best, top, bottom = _find_run(_weigh_lines(counts[:, left], counts[:, right], rows, width, p, q))
        better = best > p * counts[-1, -1]
        box = (top, left, bottom, right) if better else box
        idle = 0 if better else idle + 1
        across = not across
    return box


@_compiled
def _weigh_lines(near: Ints, far: Ints, edges: Ints, length: int, p: int, q: int) -> Ints:
    """Weight of each line of cells `length` pixels long, from the counts up to its near end and up to its far end."""
    weights = np.empty(len(edges) - 1, dtype=np.int64)
    for k in range(len(weights)):
        ones = far[k + 1] - far[k] - near[k + 1] + near[k]
        weights[k] = (p + q) * ones - p * length * (edges[k + 1] - edges[k])
    return weights


@_compiled
def _weigh(counts: Ints, rows: Ints, columns: Ints, p: int, q: int) -> Ints:
    """Weight of each column of cells above each row edge, (rows, columns - 1) int64."""
    weights = np.empty((len(rows), len(columns) - 1), dtype=np.int64)
    for i in range(len(rows)):
        for j in range(len(columns) - 1):
            area = (rows[i] - rows[0]) * (columns[j + 1] - columns[j])
            weights[i, j] = (p + q) * (counts[i, j + 1] - counts[i, j]) - p * area
    return weights


@_compiled
def _lay_out_levels(edges: int) -> Ints:
    """Where each level of blocks begins in the tables: level v has blocks of 2^v edges, the last level one block."""
    starts = [0, edges]
    while starts[-1] - starts[-2] > 1:
        starts.append(starts[-1] + (starts[-1] - starts[-2] + 1) // 2)
    return np.array(starts)


@_compiled
def _bound_blocks(weights: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Lowest and highest prefix sum of each column in every block of row edges, each (starts[-1], columns - 1)."""
    low = np.empty((starts[-1], weights.shape[1]), dtype=np.int64)
    high = np.empty_like(low)
    for i in range(len(weights)):
        for j in range(weights.shape[1]):
            low[i, j] = high[i, j] = weights[i, j]
    for v in range(1, len(starts) - 1):
        for i in range(starts[v + 1] - starts[v]):
            one = starts[v - 1] + 2 * i
            two = min(one + 1, starts[v] - 1)
            for j in range(weights.shape[1]):
                low[starts[v] + i, j] = min(low[one, j], low[two, j])
                high[starts[v] + i, j] = max(high[one, j], high[two, j])
    return low, high


@_compiled
def _bound_pairs(low_0: Ints, low_1: Ints, high_0: Ints, high_1: Ints) -> Corners:
    """Bound four nodes at once, two blocks of top edges by two of bottom edges: independent scans fill the pipeline."""
    now_00 = now_01 = now_10 = now_11 = 0
    top_00 = top_01 = top_10 = top_11 = 0
    for j in range(len(low_0)):
        now_00 = max(now_00 + high_0[j] - low_0[j], 0)
        now_01 = max(now_01 + high_1[j] - low_0[j], 0)
        now_10 = max(now_10 + high_0[j] - low_1[j], 0)
        now_11 = max(now_11 + high_1[j] - low_1[j], 0)
        top_00, top_01 = max(top_00, now_00), max(top_01, now_01)
        top_10, top_11 = max(top_10, now_10), max(top_11, now_11)
    return top_00, top_01, top_10, top_11


@_compiled
def _subtract(one: Ints, two: Ints) -> Ints:
    """`one - two`; written out, because numba takes seconds to compile an array expression."""
    difference = np.empty(len(one), dtype=np.int64)
    for j in range(len(one)):
        difference[j] = one[j] - two[j]
    return difference


@_compiled
def _comes_first(one: Corners, two: Corners, turned: bool) -> bool:  # noqa: FBT001
    """Whether box `one` precedes box `two` in order (x_min, y_min, x_max, y_max)."""
    if turned:
        return one < two
    return (one[1], one[0], one[3], one[2]) < (two[1], two[0], two[3], two[2])


@_compiled
def _search(
    low: Ints,
    high: Ints,
    starts: Ints,
    best: int,
    box: Corners,
    turned: bool,  # noqa: FBT001
) -> tuple[int, Corners]:
    """Find the rectangle of maximum sum, given that `box` has the sum `best` already; ties go to the first in order."""
    nodes = [(len(starts) - 2, 0, 0, best)]  # level, block of top edges, block of bottom edges, bound
    while nodes:
        level, i, j, bound = nodes.pop()
        if bound < best:
            continue
        level, i, j = level - 1, 2 * i, 2 * j
        first, blocks = starts[level], starts[level + 1] - starts[level]
        i_1, j_1 = first + min(i + 1, blocks - 1), first + min(j + 1, blocks - 1)
        bounds = _bound_pairs(low[first + i], low[i_1], high[first + j], high[j_1])
        for k in range(4):
            top, bottom = i + k // 2, j + k % 2
            if bounds[k] < best or max(top, bottom) >= blocks or top > bottom or (level == 0 and top == bottom):
                continue
            if level > 0:
                nodes.append((level, top, bottom, bounds[k]))
                continue
            total, left, right = _find_run(_subtract(low[bottom], low[top]))
            if total > best or (total == best and _comes_first((top, left, bottom, right), box, turned)):
                best, box = total, (top, left, bottom, right)
    return best, box
