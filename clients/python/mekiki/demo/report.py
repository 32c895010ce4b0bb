"""From results to one self-contained HTML file: no script, nothing fetched, fit for paper and for a telephone."""

import json
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mekiki.demo.cards import HeatScale, choose_fairly, show_boxes, show_journey, show_judged, show_masks
from mekiki.demo.charts import draw_latencies, draw_sizes
from mekiki.demo.curve import bound_share, measure_auroc, trace_roc
from mekiki.demo.figures import Figure, list_figures, show_bytes, show_share, summarise
from mekiki.demo.results import GOOD, Results
from mekiki.report.album import Album, Card, Shot
from mekiki.report.charts import draw_roc, draw_scores
from mekiki.report.page import render
from mekiki.report.svg import BLUE, MUTED, RED


@dataclass(frozen=True)
class LabelRow:
    """How one label fared."""

    label: str
    is_good: bool
    count: int
    called: int  # anomalous
    interval: str
    auroc: str


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    results: Results
    figures: dict[str, Figure]
    headline: str
    promise: str
    charts: dict[str, Markup]
    labels: list[LabelRow]
    journey: list[tuple[Shot, str]]
    worst: list[Card]
    best: list[Card]
    mistakes: list[Card]
    boxes: list[Card]
    masks: list[Card]
    scale: HeatScale


def write_report(results: Results, out: Path) -> Path:
    """Write `report.html`, `summary.json` and the pictures to `out`, and return the report's path.

    Raises:
        OSError: a file could not be written.
    """
    album = Album(out / "pictures")
    page = compose_page(results, album)
    for name, chart in page.charts.items():
        (album.folder / f"{name}.svg").write_text(chart, encoding="utf-8")
    summary = json.dumps(summarise(results), indent=1, ensure_ascii=False)
    (out / "summary.json").write_text(summary + "\n", encoding="utf-8")
    report = out / "report.html"
    report.write_text(render_page(page), encoding="utf-8")
    return report


def render_page(page: Page) -> str:
    """Return the page as HTML; whatever came from outside is escaped."""
    return render(Path(__file__).parent / "template.html.jinja", page=page)


def compose_page(results: Results, album: Album) -> Page:
    """Return what the report shows, its pictures filed in the album."""
    scale = HeatScale.of(results)
    bad = sorted(results.bad, key=lambda image: -image.score)
    good = sorted(results.good, key=lambda image: image.score)
    wrong = [image for image in (*bad[::-1], *good[::-1]) if image.is_anomalous == image.is_good]
    boxes, masks = results.boxes, results.masks
    return Page(
        results=results,
        figures={figure.name: figure for figure in list_figures(results)},
        headline=_headline(results),
        promise=_promise(results),
        charts=_charts(results),
        labels=_label_rows(results),
        journey=show_journey(results, album, scale),
        worst=show_judged([image for image in bad if image.is_anomalous][:6], "worst", album, scale),
        best=show_judged([image for image in good if not image.is_anomalous][:3], "best", album, scale),
        mistakes=show_judged(wrong[:6], "mistake", album, scale),
        boxes=show_boxes(choose_fairly(boxes.images, 12), boxes.labels, album) if boxes else [],
        masks=show_masks(choose_fairly(masks.images, 12), masks.labels, album) if masks else [],
        scale=scale,
    )


def _headline(results: Results) -> str:
    """Return the verdict of the whole run in a sentence."""
    alarms = sum(image.is_anomalous for image in results.good)
    raised = "no false alarm" if alarms == 0 else f"{alarms} false alarm{'s' * (alarms > 1)}"
    if not results.bad:
        return f"{len(results.good)} good parts, {raised}."
    caught, total = sum(image.is_anomalous for image in results.bad), len(results.bad)
    share = f"All {total}" if caught == total else f"{caught} of {total}"
    if not results.good:
        return f"{share} defective parts caught."
    return f"{share} defective parts caught, {raised} on {len(results.good)} good ones."


def _promise(results: Results) -> str:
    promise = results.promise
    return (
        f"The threshold was set from {len(promise.normal_scores)} normal parts alone; no defective part was used. It "
        f"promises that at most {show_share(promise.false_alarm_rate)} of normal parts are called anomalous, and this "
        f"promise holds with {show_share(promise.confidence)} confidence."
    )


def _charts(results: Results) -> dict[str, Markup]:
    good, bad = [image.score for image in results.good], [image.score for image in results.bad]
    promise, sizes, serving = results.promise, results.sizes, results.serving
    figures = {figure.name: figure for figure in list_figures(results)}
    rows = [
        ("normal", f"{len(promise.normal_scores)} set the threshold", promise.normal_scores, MUTED),
        ("good", f"{len(good)} test parts", good, BLUE),
        ("defective", f"{len(bad)} test parts", bad, RED),
    ]
    charts = {
        "scores": draw_scores([row for row in rows if row[2]], promise.threshold),
        "sizes": draw_sizes(
            [
                ("files as they came", show_bytes(sizes.original_bytes), sizes.original_bytes),
                ("stored exactly", _compare(sizes.lossless_bytes, figures["lossless_share"]), sizes.lossless_bytes),
                ("prepared", _compare(sizes.prepared_bytes, figures["prepared_ratio"]), sizes.prepared_bytes),
            ]
        ),
        "latency": draw_latencies(
            serving.latencies_ms, figures["latency_p50_ms"].value, figures["latency_p99_ms"].value
        ),
    }
    if good and bad:
        charts["roc"] = draw_roc(trace_roc(good, bad), _operating_point(results), measure_auroc(good, bad))
    # Drawn by our own code, which escapes every word it is given.
    return {name: Markup(chart) for name, chart in charts.items()}  # noqa: S704


def _compare(size: float, figure: Figure) -> str:
    smaller = "times" in figure.shown
    return f"{show_bytes(size)} · {'1/' + figure.shown.split()[0] if smaller else figure.shown}"


def _operating_point(results: Results) -> tuple[float, float]:
    alarms = sum(image.is_anomalous for image in results.good) / len(results.good)
    caught = sum(image.is_anomalous for image in results.bad) / len(results.bad)
    return alarms, caught


def _label_rows(results: Results) -> list[LabelRow]:
    good = [image.score for image in results.good]
    rows = []
    for label in sorted({image.label for image in results.judged}, key=lambda label: (label != GOOD, label)):
        images = [image for image in results.judged if image.label == label]
        called = sum(image.is_anomalous for image in images)
        low, high = bound_share(called, len(images))
        auroc = "" if label == GOOD or not good else f"{measure_auroc(good, [image.score for image in images]):.3f}"
        interval = f"{100 * low:.0f} to {show_share(high)}"
        rows.append(LabelRow(label, label == GOOD, len(images), called, interval, auroc))
    return rows
