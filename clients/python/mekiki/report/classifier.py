"""The report of a training: how good the classifier is on what was held out, and where it is wrong."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from mekiki import Classifier, ClassifierEvaluation, Client, ItemFilter, Mistake
from mekiki.report.album import Album, Card
from mekiki.report.confusion import choose_labels, draw_confusion
from mekiki.report.page import REPORT, render
from mekiki.report.pictures import as_8bit

SIDE = 200  # longer side of a picture of the contact sheet, pixels


def write_classifier(client: Client, classifier: Classifier, dataset: str, out: Path) -> Path:
    """Write `report.html` and its pictures to `out`, and return the report's path.

    Raises:
        ValueError: the classifier was trained before there was an evaluation.
        MekikiError: an item cannot be read.
        OSError: a file cannot be written.
    """
    evaluation = classifier.evaluation
    if evaluation is None:
        raise ValueError(f"{classifier.name} version {classifier.version} has no evaluation; train it again")
    album = Album(out / "pictures")
    drawn = choose_labels(classifier.labels, evaluation.confusion)
    matrix = draw_confusion(drawn, evaluation.confusion)
    (album.folder / "confusion.svg").write_text(matrix, encoding="utf-8")
    page = render(
        Path(__file__).parent / "classifier.html.jinja",
        classifier=classifier,
        evaluation=evaluation,
        dataset=dataset,
        left_out=len(classifier.labels) - len(drawn),
        confusion=Markup(matrix),  # noqa: S704 - our own code, which escapes every word it is given
        mistakes=_show_mistakes(client, dataset, evaluation.mistakes, album),
        wrong=_count_wrong(evaluation),
    )
    report = out / REPORT
    report.write_text(page, encoding="utf-8")
    return report


def _count_wrong(evaluation: ClassifierEvaluation) -> int:
    return evaluation.accuracy.total - evaluation.accuracy.count


def _show_mistakes(client: Client, dataset: str, mistakes: Sequence[Mistake], album: Album) -> list[Card]:
    """The surest mistakes first; an item that is gone since, or damaged, is left out."""
    if not mistakes:
        return []
    wanted = ItemFilter(dataset, item_ids=[mistake.item_id for mistake in mistakes])
    found = {read.item.item_id: read for read in client.codec.read_items(wanted) if read.error is None}
    cards = []
    for number, mistake in enumerate(mistakes, 1):
        if mistake.item_id in found:
            pixels = as_8bit(found[mistake.item_id].pixels)
            shot = album.add(f"mistake-{number}", pixels, f"{mistake.label}, taken for {mistake.predicted_label}", SIDE)
            verdict = f"taken for {mistake.predicted_label}"
            cards.append(
                Card((shot,), mistake.label, verdict, f"{mistake.probability:.0%} sure", True, mistake.item_id)
            )
    return cards
