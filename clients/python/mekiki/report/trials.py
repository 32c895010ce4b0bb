"""The report of trials: configurations side by side, as box plots and medians."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from markupsafe import Markup

from mekiki import Client, Evaluation, Trial, TrialSeries
from mekiki.report.album import Album
from mekiki.report.charts import draw_boxes
from mekiki.report.examples import choose, fetch_examples, show
from mekiki.report.page import REPORT, render

Measure = Callable[[Evaluation], float | None]


@dataclass(frozen=True)
class Row:
    """One configuration in a table: median, least and most of each measure, "" where there is none."""

    name: str
    trials: int
    measures: list[str]
    train_s: float  # median


MEASURES: dict[str, Measure] = {
    "area under ROC, images": lambda evaluation: evaluation.image_auroc,
    "average precision": lambda evaluation: evaluation.average_precision,
    "area under ROC, pixels": lambda evaluation: None if evaluation.pixels is None else evaluation.pixels.auroc,
    "per-region overlap": lambda evaluation: None if evaluation.pixels is None else evaluation.pixels.pro,
}


def write_trials(
    client: Client, series: Sequence[TrialSeries], dataset: str, normal_labels: AbstractSet[str], out: Path
) -> Path:
    """Write `report.html` and its pictures to `out`, and return the report's path.

    Raises:
        MekikiError: an item cannot be read.
        OSError: a file cannot be written.
    """
    best = max(series, key=lambda one: one.median_auroc)
    choice = choose(best.scores, normal_labels, {})
    shown = show(choice, fetch_examples(client, None, dataset, choice), Album(out / "pictures"))
    kept = {name: measure for name, measure in MEASURES.items() if any(_values(one, measure) for one in series)}
    labels = [label.label for label in series[0].trials[0].evaluation.labels if label.image_auroc is not None]
    report = out / REPORT
    page = render(
        Path(__file__).parent / "trials.html.jinja",
        dataset=dataset,
        best=best,
        shown=shown,
        measures=list(kept),
        rows=[_row(one, kept) for one in series],
        charts=[_draw(series, name, measure) for name, measure in kept.items()],
        labels=labels,
        label_rows=[(one.name, [_tell(_values(one, _of_label(label))) for label in labels]) for one in series],
        shortcuts=series[0].trials[0].evaluation.shortcuts,
        weights={one.weights.description for one in series},
    )
    report.write_text(page, encoding="utf-8")
    return report


def _values(series: TrialSeries, measure: Measure) -> list[float]:
    found = (measure(trial.evaluation) for trial in series.trials)
    return [value for value in found if value is not None]


def _of_label(label: str) -> Measure:
    def measure(evaluation: Evaluation) -> float | None:
        return next((each.image_auroc for each in evaluation.labels if each.label == label), None)

    return measure


def _row(series: TrialSeries, measures: dict[str, Measure]) -> Row:
    trials: tuple[Trial, ...] = series.trials
    told = [_tell(_values(series, measure)) for measure in measures.values()]
    return Row(series.name, len(trials), told, median(trial.train_s for trial in trials))


def _tell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{median(values):.3f}{spread}"


def _draw(series: Sequence[TrialSeries], name: str, measure: Measure) -> Markup:
    rows = [(one.name, values) for one in series if (values := _values(one, measure))]
    return Markup(draw_boxes(rows, name))  # noqa: S704 - our own code, which escapes every word it is given
