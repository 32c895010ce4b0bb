"""Charts, each from plain numbers to SVG."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mekiki.report import svg
from mekiki.report.svg import BLUE, HAIR, INK, MUTED, RED

WIDTH = 620.0
_ROOM = 26.0  # of a word at a point
Row = tuple[str, str, Sequence[float], str]  # name, a remark under it, values, colour


def draw_scores(rows: Sequence[Row], threshold: float | None) -> str:
    """Return a histogram of scores per row over one axis, with the threshold, if there is one, through all of them."""
    left, right, row_height = 128.0, WIDTH - 12, 74.0
    bottom = 34 + row_height * len(rows)
    low, high = _span([*(value for row in rows for value in row[2]), *([] if threshold is None else [threshold])])
    shapes: list[str] = []
    for number, row in enumerate(rows):
        shapes += _histogram_row(row, low, high, left, right, 34 + row_height * (number + 1) - 8, row_height - 20)
    if threshold is not None:
        x = left + (threshold - low) / (high - low) * (right - left)
        shapes += [svg.line(x, 22, x, bottom - 4, INK, 1.4, "5 3")]
        anchor = "end" if x > WIDTH * 0.62 else "start"
        shift = -7 if anchor == "end" else 7
        shapes += [svg.text(x + shift, 17, f"anomalous above {threshold:.3g}", INK, anchor, 600)]
    for tick in nice_ticks(low, high, 6):
        at = left + (tick - low) / (high - low) * (right - left)
        shapes += [
            svg.line(at, bottom - 6, at, bottom - 2, MUTED),
            svg.text(at, bottom + 12, f"{tick:g}", MUTED, "middle"),
        ]
    shapes += [svg.text(right, bottom + 30, "score: how far from the normal parts", MUTED, "end")]
    return svg.drawing(WIDTH, bottom + 38, "Scores of normal and defective parts with the threshold", shapes)


def _histogram_row(
    row: Row, low: float, high: float, left: float, right: float, base: float, height: float
) -> list[str]:
    """Return one row: dots stacked in bins while they are few, bars when they are many."""
    name, remark, values, colour = row
    bins = 56
    counts = np.histogram(values, bins=bins, range=(low, high))[0]
    step = (right - left) / bins
    shapes = [
        svg.text(0, base - height / 2 + 2, name, colour, "start", 600),
        svg.text(0, base - height / 2 + 18, remark, MUTED),
        svg.line(left, base, right, base, HAIR),
    ]
    unit = min(height / max(int(counts.max()), 1), step * 0.95)
    for number, count in enumerate(counts):
        x = left + number * step
        if unit >= 5:
            shapes += [svg.dot(x + step / 2, base - unit * (k + 0.5), unit * 0.46, colour) for k in range(int(count))]
        elif count:
            shapes.append(svg.rectangle(x + 0.6, base - unit * count, step - 1.2, unit * count, colour, 0.9))
    return shapes


def draw_roc(points: NDArray[np.float64], operating: tuple[float, float] | None, auroc: float) -> str:
    """Return the ROC curve with the point at which the threshold works."""
    side, left, top = 250.0, 52.0, 30.0

    def place(false_alarms: float, detections: float) -> tuple[float, float]:
        return left + false_alarms * side, top + (1 - detections) * side

    shapes = [svg.line(*place(0, share), *place(1, share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    shapes += [svg.text(left - 8, place(0, share)[1] + 4, f"{share:.0%}", MUTED, "end") for share in (0, 0.5, 1)]
    shapes += [svg.text(place(share, 0)[0], top + side + 18, f"{share:.0%}", MUTED, "middle") for share in (0, 0.5, 1)]
    shapes += [svg.line(*place(0, 0), *place(1, 1), MUTED, 1, "2 4")]
    curve = [place(float(x), float(y)) for x, y in _staircase(points)]
    shapes += [svg.path([*curve, place(1, 0), place(0, 0)], "none", 0, "#0072b214"), svg.path(curve, BLUE, 2.4)]
    if operating:
        shapes += [svg.ring(*place(*operating), 6, RED)]
    if operating:
        shapes.append(svg.text(left + side - 8, top + side - 10, "ring: at the threshold", RED, "end"))
    shapes += [
        svg.text(left + side - 8, top + side - 28, f"area {auroc:.3f}", INK, "end", 600),
        svg.text(left + side / 2, top + side + 36, "false alarms on good parts", MUTED, "middle"),
        svg.text(0, 12, "defects caught", MUTED),
    ]
    return svg.drawing(left + side + 18, top + side + 44, f"ROC curve, area {auroc:.3f}", shapes)


def _staircase(points: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return the curve's points with the points that matter only: where its direction changes."""
    kept = [(float(x), float(y)) for x, y in points]
    return [
        point
        for i, point in enumerate(kept)
        if i in (0, len(kept) - 1) or not (_level(kept[i - 1 : i + 2], 0) or _level(kept[i - 1 : i + 2], 1))
    ]


def _level(points: list[tuple[float, float]], axis: int) -> bool:
    return len({point[axis] for point in points}) == 1


def draw_boxes(rows: Sequence[tuple[str, Sequence[float]]], title: str) -> str:
    """Return a box plot of shares: the median, the box of the middle half, whiskers to the ends, all values as dots."""
    left, right, row_height = 190.0, WIDTH - 58, 46.0
    bottom = 8 + row_height * len(rows)
    low, high = _span([value for _, values in rows for value in values])
    high = min(high, 1.0)

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    shapes: list[str] = []
    for tick in nice_ticks(low, high, 7):
        shapes += [svg.line(place(tick), 4, place(tick), bottom), _tick_words(place(tick), bottom + 16, tick)]
    for number, (name, values) in enumerate(rows):
        middle = 8 + row_height * (number + 0.5)
        least, lower, half, upper, most = (place(float(end)) for end in np.percentile(values, [0, 25, 50, 75, 100]))
        shapes += [svg.text(left - 14, middle + 4, name, INK, "end", 600), svg.line(least, middle, most, middle, INK)]
        shapes += [svg.rectangle(lower, middle - 9, max(upper - lower, 1.5), 18, "#9cc7e0")]
        shapes += [svg.dot(place(float(value)), middle, 3.2, BLUE) for value in values]
        shapes += [svg.line(half, middle - 12, half, middle + 12, INK, 2.6)]
        shapes += [svg.text(right + 8, middle + 4, f"{np.median(values):.3f}", INK)]
    shapes += [svg.text(right, bottom + 34, title, MUTED, "end")]
    return svg.drawing(WIDTH, bottom + 42, title, shapes)


def draw_curve(
    points: Sequence[tuple[float, float, tuple[float, float], str, bool]],
    levels: Sequence[tuple[float, str]],
    across: str,
    title: str,
) -> str:
    """Return a curve over a logarithmic axis.

    Args:
        points: x, y, the interval of y, a word, and whether it is the chosen one.
        levels: values of y that a line is drawn at, with what they mean.
        across: what x is.
        title: what y is.
    """
    left, right, top, bottom = 58.0, WIDTH - 16, 30.0, 290.0
    ends = [end for _, _, interval, _, _ in points for end in interval]
    low, high = _span([*ends, *(value for value, _ in levels)])
    least, most = _span([float(np.log10(x)) for x, *_ in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across_share = (float(np.log10(x)) - least) / (most - least)
        return left + across_share * (right - left), bottom - (y - low) / (high - low) * (bottom - top)

    shapes: list[str] = []
    for tick in nice_ticks(low, high, 6):
        height = place(points[0][0], tick)[1]
        shapes += [svg.line(left, height, right, height), svg.text(left - 8, height + 4, f"{tick:g}", MUTED, "end")]
    for tick in _log_ticks(10**least, 10**most):
        at = place(tick, low)[0]
        shapes += [
            svg.line(at, bottom - 4, at, bottom, MUTED),
            svg.text(at, bottom + 18, f"{tick:,g}", MUTED, "middle"),
        ]
    for number, (level, words) in enumerate(levels):  # on the left, where the curve is low; the words keep apart
        height = place(points[0][0], level)[1]
        shapes.append(svg.line(left, height, right, height, INK, 1.2, "5 3"))
        shapes.append(svg.text(left + 4, height + (14 if number else -5), words, INK))
    shapes.append(svg.path([place(x, y) for x, y, *_ in points], BLUE, 2))
    told = [place(x, y)[0] for x, y, _, _, is_chosen in points if is_chosen]
    for x, y, interval, word, is_chosen in points:
        at, height = place(x, y)
        shapes.append(svg.line(at, place(x, interval[0])[1], at, place(x, interval[1])[1], BLUE, 1.2))
        shapes.append(svg.ring(at, height, 6, RED) if is_chosen else svg.dot(at, height, 4, BLUE))
        if is_chosen or all(abs(at - other) >= _ROOM for other in told):
            shapes.append(svg.text(at + 4, height + 22, word, RED if is_chosen else INK, "start", 600))
            told.append(at)
    shapes += [svg.text(right, bottom + 38, across, MUTED, "end"), svg.text(0, 14, title, MUTED)]
    return svg.drawing(WIDTH, bottom + 46, title, shapes)


def _tick_words(x: float, y: float, tick: float) -> str:
    return svg.text(x, y, f"{tick:g}", MUTED, "middle")


def _log_ticks(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2, 5 times a power of ten from low to high."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [nice * 10.0**power for power in powers for nice in (1, 2, 5) if low <= nice * 10.0**power <= high]


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` round numbers from low to high (Heckbert, "Nice numbers for graph labels", 1990)."""
    raw = (high - low) / max(most - 1, 1)
    scale = 10 ** np.floor(np.log10(raw))
    step = next(nice * scale for nice in (1, 2, 5, 10) if nice * scale >= raw)
    first = np.ceil(low / step - 1e-9)
    return [float(round(tick * step, 10)) + 0.0 for tick in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that holds the values with a little air."""
    low, high = min(values), max(values)
    air = (high - low) * 0.04 or 0.5
    return max(low - air, 0.0) if low >= 0 else low - air, high + air
