"""The demonstration's own charts, each from plain numbers to SVG."""

from collections.abc import Sequence

import numpy as np

from mekiki.demo.figures import show_duration
from mekiki.report import svg
from mekiki.report.charts import WIDTH, nice_ticks
from mekiki.report.svg import BLUE, HAIR, INK, MUTED


def draw_sizes(bars: Sequence[tuple[str, str, float]]) -> str:
    """Return bars to one scale: name, the size in words, the size."""
    left, row_height, full = 150.0, 46.0, WIDTH - 150 - 150
    largest = max(size for _, _, size in bars)
    shapes: list[str] = []
    for number, (name, words, size) in enumerate(bars):
        y = number * row_height + 6
        length = max(size / largest * full, 1.5)
        colour = BLUE if number == len(bars) - 1 else "#9aa7b3"
        shapes += [
            svg.text(left - 12, y + 21, name, INK, "end"),
            svg.rectangle(left, y + 4, length, row_height - 18, colour),
            svg.text(left + length + 10, y + 21, words, INK, "start", 600),
        ]
    return svg.drawing(WIDTH, len(bars) * row_height + 4, "Size of the data set in each form", shapes)


def draw_latencies(latencies_ms: Sequence[float], half: float, most: float) -> str:
    """Return every answer's time as a dot, with the median and the 99th percentile marked."""
    left, right, base = 10.0, WIDTH - 24, 92.0
    low, high = 0.0, max([*latencies_ms, most]) * 1.08
    shift = (np.arange(len(latencies_ms)) * 0.618034 % 1 - 0.5) * 30  # spread evenly, the same every time

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    shapes = [svg.line(left, base, right, base, HAIR)]
    for tick in nice_ticks(low, high, 7):
        at = place(tick)
        shapes += [svg.line(at, base, at, base + 4, MUTED), svg.text(at, base + 18, f"{tick:g}", MUTED, "middle")]
    for value, offset in zip(latencies_ms, shift, strict=True):
        shapes.append(svg.dot(place(value), base - 26 + float(offset), 3.4, BLUE))
    for value, name, top in ((half, "median", 4), (most, "99 of 100", 22)):
        x = place(value)
        leftwards = x > WIDTH - 130 or (name == "median" and x > 130)
        shapes += [svg.line(x, top, x, base, INK, 1.4, "5 3")]
        words = f"{name} {show_duration(value)}"
        shapes += [svg.text(x + (-7 if leftwards else 7), top + 9, words, INK, "end" if leftwards else "start", 600)]
    shapes += [svg.text(right, base + 36, "milliseconds from call to answer, heat map included", MUTED, "end")]
    return svg.drawing(WIDTH, base + 42, "Time to answer a single call", shapes)
