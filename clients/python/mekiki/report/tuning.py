"""The report of how far images can be compressed before a detector judges worse."""

from pathlib import Path

from markupsafe import Markup

from mekiki import CompressionTuning, RatePoint
from mekiki.report.charts import draw_curve
from mekiki.report.page import REPORT, render


def write_tuning(tuned: CompressionTuning, dataset: str, max_loss: float, out: Path) -> Path:
    """Write `report.html` to `out`, and return its path.

    Raises:
        OSError: the file cannot be written.
    """
    report = out / REPORT
    page = render(
        Path(__file__).parent / "tuning.html.jinja",
        dataset=dataset,
        tuned=tuned,
        max_loss=max_loss,
        chosen=find_chosen(tuned),
        chart=Markup(_draw(tuned, max_loss)),  # noqa: S704 - our own code, which escapes every word it is given
    )
    report.write_text(page, encoding="utf-8")
    return report


def find_chosen(tuned: CompressionTuning) -> RatePoint | None:
    """The point of the rate factor that was found."""
    return next((point for point in tuned.points if point.crf == tuned.crf), None)


def _draw(tuned: CompressionTuning, max_loss: float) -> str:
    points = [
        (
            point.frame_bytes,
            point.auroc,
            (tuned.prepared_auroc - point.loss_interval[1], tuned.prepared_auroc - point.loss_interval[0]),
            str(point.crf),
            point.crf == tuned.crf,
        )
        for point in tuned.points
    ]
    levels = [
        (tuned.prepared_auroc, f"not compressed: {tuned.prepared_auroc:.4f}"),
        (tuned.prepared_auroc - max_loss, f"{max_loss:g} less"),
    ]
    return draw_curve(points, levels, "mean bytes of a frame", "area under the ROC curve, by rate factor")
