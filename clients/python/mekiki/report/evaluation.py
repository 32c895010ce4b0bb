"""The report of one evaluation: how sure, where wrong, and what flatters."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mekiki import Client, Evaluation, Threshold
from mekiki.report.album import Album
from mekiki.report.charts import draw_roc, draw_scores
from mekiki.report.examples import Shown, choose, fetch_examples, show
from mekiki.report.page import REPORT, render
from mekiki.report.svg import BLUE, RED


@dataclass(frozen=True)
class Subject:
    """What was evaluated on what."""

    detector: str  # with its version
    dataset: str
    normal_labels: AbstractSet[str]


def write_evaluation(
    client: Client, evaluation: Evaluation, thresholds: Mapping[str, Threshold], subject: Subject, out: Path
) -> Path:
    """Write `report.html` and its pictures to `out`, and return the report's path; thresholds are by category.

    Raises:
        MekikiError: an item cannot be judged once more.
        OSError: a file cannot be written.
    """
    values = {category: threshold.value for category, threshold in thresholds.items()}
    choice = choose(evaluation.scores, subject.normal_labels, values)
    album = Album(out / "pictures")
    shown = show(choice, fetch_examples(client, subject.detector, subject.dataset, choice), album)
    report = out / REPORT
    report.write_text(_render(evaluation, list(thresholds.values()), subject, shown), encoding="utf-8")
    return report


def _render(evaluation: Evaluation, thresholds: Sequence[Threshold], subject: Subject, shown: Shown) -> str:
    return render(
        Path(__file__).parent / "evaluation.html.jinja",
        evaluation=evaluation,
        thresholds=thresholds,
        subject=subject,
        shown=shown,
        charts=_draw(evaluation, thresholds, subject.normal_labels),
    )


def _draw(
    evaluation: Evaluation, thresholds: Sequence[Threshold], normal_labels: AbstractSet[str]
) -> dict[str, Markup]:
    normal = [item.score for item in evaluation.scores if item.label in normal_labels]
    bad = [item.score for item in evaluation.scores if item.label not in normal_labels]
    rows = [("normal", f"{len(normal)} items", normal, BLUE), ("anomalous", f"{len(bad)} items", bad, RED)]
    operating = None
    if evaluation.false_alarms is not None and evaluation.misses is not None:
        operating = (evaluation.false_alarms.share, 1 - evaluation.misses.share)
    charts = {
        "scores": draw_scores(rows, thresholds[0].value if len(thresholds) == 1 else None),
        "roc": draw_roc(evaluation.roc, operating, evaluation.image_auroc),
    }
    # Drawn by our own code, which escapes every word it is given.
    return {name: Markup(chart) for name, chart in charts.items()}  # noqa: S704
