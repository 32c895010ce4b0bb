"""Pulls one kind of image out of a mixed folder: triage."""

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from mekiki import Classifier, Client, Filter, FilteredImage, FilterVerdict, Frame, ImageLike, Rate
from mekiki.cli.codes import ExitCode
from mekiki.cli.folder import list_images
from mekiki.cli.output import Output
from mekiki.cli.plain import to_plain
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, session

FEW_GROUPS = 10


def triage(  # noqa: PLR0913 -- a command's options
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of images of all kinds.")],
    *,
    classifier: Annotated[str, typer.Option(help="Name of a classifier that knows the kinds.")],
    want: Annotated[list[str], typer.Option(help="A label that is wanted; may be repeated.")],
    recall: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="At least this share of the wanted images is to be found.")
    ] = 0.98,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Probability that this holds.")] = 0.95,
    copy: Annotated[Path | None, typer.Option(help="Folder to copy them to: wanted/ and unlike/.")] = None,
    link: Annotated[Path | None, typer.Option(help="The same with symbolic links.")] = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Pull the wanted images out of a mixed folder, such that few of them are missed.

    The threshold keeps the recall that was asked for on items that the classifier's training held out, whole groups
    where it had any; what precision this costs is said, and how many items it would need where there are too few.
    Images that are unlike anything seen in training come to a folder of their own, for a person to look at.
    """
    with session(address, json=json) as (client, output):
        paths = list_images([folder])
        tray = _open_tray(folder, copy, link)
        known = client.saliency.get_classifier(classifier)
        _check_labels(want, known)
        outcome = _sort(client, output, paths, tray, _Wish(classifier, want, recall, confidence))
        _tell(outcome, known, recall, confidence, output)
        if outcome.refused:
            raise typer.Exit(ExitCode.REFUSED)


def _check_labels(want: list[str], known: Classifier) -> None:
    unknown = [label for label in want if label not in known.labels]
    if unknown:
        raise ValueError(f"{known.name} does not know {unknown[0]!r}; it knows {', '.join(known.labels)}")


@dataclass(frozen=True)
class _Tray:
    """Where images go."""

    source: Path
    out: Path
    linked: bool

    def put(self, path: Path, verdict: FilterVerdict) -> Path:
        """Files an image at the path that it has below the source.

        Raises:
            ValueError: another file is there.
        """
        target = self.out / verdict.value / path.relative_to(self.source)
        if os.path.lexists(target):
            if self._is_same(path, target):
                return target
            raise ValueError(f"{target} exists already, and is not {path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.linked:
            target.symlink_to(path.absolute())
        else:
            beside = target.with_name(f".{target.name}.part")  # so that what is there is whole
            shutil.copy2(path, beside)
            beside.replace(target)
        return target

    def _is_same(self, path: Path, target: Path) -> bool:
        if self.linked or target.is_symlink():
            return target.resolve() == path.resolve()
        return filecmp.cmp(path, target, shallow=False)


@dataclass(frozen=True)
class _Wish:
    classifier: str
    labels: list[str]
    recall: float
    confidence: float


@dataclass
class _Outcome:
    counts: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    filter: Filter | None = None


def _open_tray(folder: Path, copy: Path | None, link: Path | None) -> _Tray | None:
    if copy and link:
        raise ValueError("--copy and --link exclude each other")
    out = copy or link
    if out is None:
        return None
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{out} lies in {folder}: what is pulled out would be looked at again the next time")
    return _Tray(folder, out, linked=link is not None)


def _sort(client: Client, output: Output, paths: tuple[Path, ...], tray: _Tray | None, wish: _Wish) -> _Outcome:
    def frames() -> Iterator[Frame[ImageLike]]:
        return (Frame(path, str(number)) for number, path in enumerate(paths))

    outcome = _Outcome()
    answers = client.saliency.filter_images(
        wish.classifier, frames(), wish.labels, recall=wish.recall, confidence=wish.confidence
    )
    with closing(answers), output.bar(f"asking {wish.classifier}") as bar:
        for number, (path, answer) in enumerate(zip(paths, answers, strict=True), 1):
            bar.show(number, len(paths))
            if answer.error is not None:
                outcome.refused += 1
                output.warn(f"{path}: {answer.error.message}")
                output.value({"image": str(path)} | to_plain(answer.error))
            else:
                _file(path, answer.value, tray, outcome, output)
    return outcome


def _file(path: Path, seen: FilteredImage, tray: _Tray | None, outcome: _Outcome, output: Output) -> None:
    outcome.counts[seen.verdict] += 1
    outcome.filter = seen.filter
    line = {"image": str(path), "verdict": seen.verdict, "probability": seen.probability, "distance": seen.distance}
    if tray is not None and seen.verdict is not FilterVerdict.UNWANTED:
        line["path"] = str(tray.put(path, seen.verdict))
    output.value(line)


def _tell(outcome: _Outcome, known: Classifier, recall: float, confidence: float, output: Output) -> None:
    counts = {verdict.value: outcome.counts[verdict] for verdict in FilterVerdict}
    output.say(
        f"{counts['wanted']} wanted, {counts['unlike']} unlike anything seen, {counts['unwanted']} unwanted, "
        f"{outcome.refused} refused"
    )
    output.value({"counts": counts | {"refused": outcome.refused}, "filter": outcome.filter})
    if outcome.filter is None:
        return
    chosen = outcome.filter
    output.say(
        f"at least {chosen.promised_recall:.1%} of wanted images are called wanted, with {confidence:.0%} confidence: "
        f"of those held out {_tell_rate(chosen.recall)}"
    )
    output.say(f"of what is called wanted {_tell_rate(chosen.precision)} of the held-out items is")
    if chosen.promised_recall < recall:
        output.warn(
            f"{chosen.recall.total} wanted items were held out; a recall of {recall:.1%} with {confidence:.0%} "
            f"confidence needs {chosen.needed_count}: train on more, or hold out more (--validation-fraction)"
        )
    if known.split_by == "group" and chosen.held_out_unit_count < FEW_GROUPS:
        output.warn(f"they come from {chosen.held_out_unit_count} groups: all this holds for images like theirs")
    if known.split_by == "image":
        output.warn("near-duplicates of what was trained on may be among them: this flatters")


def _tell_rate(rate: Rate) -> str:
    return f"{rate.count} of {rate.total} ({rate.share:.1%}; 95 % interval {rate.lower:.1%} to {rate.upper:.1%})"
