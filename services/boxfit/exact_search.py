"""The compiled part of the exact box search; `exact.py` says what it does and why it is right.

All of it is in one file, for numba's cache tracks one file.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from services.boxfit.fit import Levels

Ints = NDArray[np.int64]
Shorts = NDArray[np.int32]
Corners = tuple[int, int, int, int]  # top, left, bottom, right, as indices into row and column edges
Found = tuple[int, Corners]  # the sum of weights in a box, and the box
F = TypeVar("F", bound=Callable[..., object])


def _compiled(function: F) -> F:
    """Compile with numba, free of the GIL, cached on disk.

    Compiled functions take their arguments by position alone, hence their boolean ones.
    """
    try:
        return cast("F", njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder can be written to (NUMBA_CACHE_DIR names one): compile at every start
        return cast("F", njit(nogil=True)(function))


@_compiled
def find_best_box(framed: Levels, rows: Ints, columns: Ints, scaled: Ints) -> tuple[Corners, int, int, int]:
    """Return the best box as edge indices, its intersection and union, and the number of rounds.

    `scaled` is `rows` times what a full pixel counts: areas, and so unions, are in that unit.
    """
    counts, rows = _sum_pixels(framed, rows, columns), scaled
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
        # No sum of weights is beyond this, be it of a whole block at its best.
        shift = _choose_shift(q * counts[-1, -1] + p * (rows[-1] - rows[0]) * (columns[-1] - columns[0]))
        best, box = _search(_weigh(counts, rows, columns, p, q), starts, shift, target, box, turned)
        if best == target:
            return box, rounds
        box = _improve_locally(counts, rows, columns, box)


@_compiled
def _find_start(counts: Ints, rows: Ints, columns: Ints) -> Corners:
    """The best of what local improvement makes of the tight box, its quarters and its ninths; often the best box.

    One start costs a hundredth of the round that it may save.
    """
    bottom, right = len(rows) - 1, len(columns) - 1
    best, best_inside, best_union = (0, 0, bottom, right), 0, 1
    for parts in range(1, 4):
        for part in range(parts * parts):
            i, j = part // parts, part % parts
            top, left = bottom * i // parts, right * j // parts
            box = (top, left, max(bottom * (i + 1) // parts, top + 1), max(right * (j + 1) // parts, left + 1))
            box = _improve_locally(counts, rows, columns, box)
            inside, union = _measure(counts, rows, columns, box)
            if inside * best_union > best_inside * union:
                best, best_inside, best_union = box, inside, union
    return best


@_compiled
def _sum_pixels(framed: Levels, rows: Ints, columns: Ints) -> Ints:
    """Integral image of the pixels over the grid of edges, (rows, columns) int64."""
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for i in range(1, len(rows)):
        height = rows[i] - rows[i - 1]
        line = 0
        for j in range(1, len(columns)):
            pixel = np.int64(framed[rows[i], columns[j]])  # the frame shifts by one: the last pixel of the cell
            line += pixel * height * (columns[j] - columns[j - 1])
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
def _choose_shift(largest: int) -> int:
    """The unit, as a power of two, in which sums of this size fit 31 bits with room for the rounding."""
    shift = 0
    while largest >> shift >= 1 << 30:
        shift += 1
    return shift


@_compiled
def _lay_out_levels(edges: int) -> Ints:
    """Where each level of blocks begins in the tables: level v has blocks of 2^v edges, the last level one block."""
    starts = [0, edges]
    while starts[-1] - starts[-2] > 1:
        starts.append(starts[-1] + (starts[-1] - starts[-2] + 1) // 2)
    return np.array(starts)


@_compiled
def _bound_blocks(weights: Ints, starts: Ints, shift: int) -> tuple[Shorts, Shorts]:
    """Lowest and highest prefix sum of each column in every block of row edges, in units of 2^shift, rounded outwards.

    The lowest (blocks, columns), the highest (columns, blocks): as `_bound_pairs` reads them.
    """
    columns = weights.shape[1]
    low = np.empty((starts[-1], columns), dtype=np.int32)
    high = np.empty((columns, starts[-1]), dtype=np.int32)
    for i in range(len(weights)):
        for j in range(columns):
            low[i, j] = weights[i, j] >> shift
            high[j, i] = -(-weights[i, j] >> shift)
    for v in range(1, len(starts) - 1):
        before, after = starts[v - 1], starts[v]
        for i in range(starts[v + 1] - after):
            one, two = low[before + 2 * i], low[min(before + 2 * i + 1, after - 1)]
            for j in range(columns):
                low[after + i, j] = min(one[j], two[j])
        for j in range(columns):
            for i in range(starts[v + 1] - after):
                high[j, after + i] = max(high[j, before + 2 * i], high[j, min(before + 2 * i + 1, after - 1)])
    return low, high


@_compiled
def _bound_pairs(low: Shorts, high: Shorts, first: int, now: Shorts, bounds: Shorts) -> None:
    """Bound the nodes of one block of top edges, `low` (columns,), and the blocks of bottom edges from `first` on.

    Fills `bounds`, one per node; `now` is room of the same length. Side by side the scans run in vector registers.
    """
    now[:] = 0
    bounds[:] = 0
    for j in range(len(low)):
        column, lowest = high[j, first : first + len(bounds)], low[j]
        for k in range(len(bounds)):
            total = np.int32(now[k] + np.int32(column[k] - lowest))
            now[k] = total if total > 0 else np.int32(0)
            bounds[k] = max(bounds[k], now[k])


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
def _search(weights: Ints, starts: Ints, shift: int, best: int, box: Corners, turned: bool) -> Found:  # noqa: FBT001
    """Find the rectangle of maximum sum, given that `box` has the sum `best` already; ties go to the first in order."""
    low, high = _bound_blocks(weights, starts, shift)
    now = np.empty(len(weights), dtype=np.int32)
    bounds = np.empty(len(weights), dtype=np.int32)
    runs = _narrow_runs(low, high, starts, best >> shift)
    for top in range(len(weights)):
        first, last = runs[top]
        first = max(first, top + 1)
        count = max(last - first + 1, 0)
        _bound_pairs(low[top], high, first, now[:count], bounds[:count])
        for k in range(count):
            if bounds[k] < best >> shift:
                continue
            total, left, right = _find_run(_subtract(weights[first + k], weights[top]))
            found = (top, left, first + k, right)
            if total > best or (total == best and _comes_first(found, box, turned)):
                best, box = total, found
    return best, box


@_compiled
def _narrow_runs(low: Shorts, high: Shorts, starts: Ints, least: int) -> Ints:
    """For each top edge the first and the last bottom edge that may matter, (rows, 2); none where the first is greater.

    Level by level: each block of top edges keeps the run of blocks of bottom edges that holds every promising node.
    """
    now = np.empty(starts[1], dtype=np.int32)
    bounds = np.empty(starts[1], dtype=np.int32)
    runs = np.zeros((1, 2), dtype=np.int64)
    for level in range(len(starts) - 2, 0, -1):
        below = starts[level] - starts[level - 1]  # blocks of the next level
        narrowed = np.empty((below, 2), dtype=np.int64)
        for i in range(len(runs)):
            first, last = max(runs[i, 0], i), runs[i, 1]
            count = max(last - first + 1, 0)
            _bound_pairs(low[starts[level] + i], high, starts[level] + first, now[:count], bounds[:count])
            first, last = _trim(bounds[:count], first, least)
            narrowed[2 * i : 2 * i + 2, 0] = 2 * first
            narrowed[2 * i : 2 * i + 2, 1] = min(2 * last + 1, below - 1)
        runs = narrowed
    return runs


@_compiled
def _trim(bounds: Shorts, first: int, least: int) -> tuple[int, int]:
    """First and last of the blocks from `first` on whose bound is `least` or more; the first is greater if none is."""
    start, end = 0, len(bounds) - 1
    while start <= end and bounds[start] < least:
        start += 1
    while start < end and bounds[end] < least:
        end -= 1
    return first + start, first + end
