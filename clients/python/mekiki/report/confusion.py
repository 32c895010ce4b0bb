"""The confusion matrix as a picture."""

from collections import Counter
from collections.abc import Mapping, Sequence

from mekiki import ConfusionCell
from mekiki.report import svg
from mekiki.report.svg import BLUE, INK, MUTED, PAPER, RED

MOST_LABELS = 40
_NAME_ROOM, _CELL_MOST, _WIDTH = 190.0, 56.0, 620.0


def choose_labels(labels: Sequence[str], cells: Sequence[ConfusionCell], most: int = MOST_LABELS) -> tuple[str, ...]:
    """The labels to draw, in their order: all, or of many those that take part in the most mistakes."""
    wrong: Counter[str] = Counter()
    for cell in cells:
        if cell.label != cell.predicted_label:
            wrong[cell.label] += cell.count
            wrong[cell.predicted_label] += cell.count
    chosen = set(sorted(labels, key=lambda label: -wrong[label])[:most])
    return tuple(label for label in labels if label in chosen)


def draw_confusion(labels: Sequence[str], cells: Sequence[ConfusionCell]) -> str:
    """Return the matrix: a row for each true label, a column for what it was taken for, shaded by its share of the row.

    Columns are numbered as the rows are. Blue is right, red is wrong.
    """
    counts = {(cell.label, cell.predicted_label): cell.count for cell in cells}
    totals: Counter[str] = Counter()
    for cell in cells:
        totals[cell.label] += cell.count
    side = min(_CELL_MOST, (_WIDTH - _NAME_ROOM) / len(labels))
    top, bottom = 40.0, 40.0 + side * len(labels)
    shapes = [svg.text(_NAME_ROOM, 14, "taken for", MUTED), svg.text(0, top - 10, "items of", MUTED)]
    for number, label in enumerate(labels, 1):
        across, middle = _NAME_ROOM + side * (number - 0.5), top + side * (number - 0.5)
        shapes.append(svg.text(across, top - 10, str(number), MUTED, "middle"))
        shapes.append(svg.text(0, middle + 4, f"{number}  {_shorten(label)}", INK, "start", 600))
        shapes += _draw_row(labels, label, counts, totals[label], top + side * (number - 1), side)
    return svg.drawing(_NAME_ROOM + side * len(labels), bottom + 8, "Confusion matrix", shapes)


def _draw_row(
    labels: Sequence[str], label: str, counts: Mapping[tuple[str, str], int], total: int, y: float, side: float
) -> list[str]:
    shapes = []
    for column, said in enumerate(labels):
        count, x = counts.get((label, said), 0), _NAME_ROOM + side * column
        shapes.append(svg.rectangle(x + 1, y + 1, side - 2, side - 2, "#eef0f1"))
        if count == 0:
            continue
        share = count / total
        shapes.append(
            svg.rectangle(x + 1, y + 1, side - 2, side - 2, BLUE if said == label else RED, 0.2 + 0.8 * share)
        )
        if side >= 22:
            ink = PAPER if share > 0.5 else INK
            shapes.append(svg.text(x + side / 2, y + side / 2 + 4, str(count), ink, "middle"))
    return shapes


def _shorten(label: str) -> str:
    return label if len(label) <= 22 else f"{label[:21]}…"
