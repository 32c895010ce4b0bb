"""The demonstration from end to end."""

import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from mekiki import Client, Detector, EncodedDataset, ItemFilter, ItemForm, ScoredImage
from mekiki.demo import steps
from mekiki.demo.drawing import Drawn, draw_from_labels
from mekiki.demo.figures import list_figures, summarise
from mekiki.demo.host import host_services
from mekiki.demo.narrator import Narrator
from mekiki.demo.report import write_report
from mekiki.demo.results import (
    Circumstances,
    Journey,
    Judged,
    Promise,
    Results,
    Serving,
    Sizes,
)
from mekiki.demo.source import (
    Labelled,
    Photo,
    Source,
    read_folder,
    read_pixels,
    read_truth,
    render_labelled,
    render_source,
)


@dataclass(frozen=True)
class _Names:
    """Names in the services, new for every run, so that a run never meets an older one."""

    parts: str
    kinds: str

    @staticmethod
    def at(moment: datetime) -> "_Names":
        stamp = f"demo-{moment:%Y%m%d-%H%M%S}"
        return _Names(f"{stamp}-parts", f"{stamp}-kinds")


@dataclass(frozen=True, eq=False)
class _Inspection:
    """What the first half found: parts stored, prepared, judged."""

    sizes: Sizes
    encoded: EncodedDataset
    detector: Detector
    weights: steps.Weights
    promise: Promise
    judged: tuple[Judged, ...]
    journey: Journey | None
    serving: Serving
    failures: tuple[tuple[str, str], ...]


def run_demo(
    data: Path | None, out: Path, running: Client | None, count: int, console: Console | None = None
) -> dict[str, object]:
    """Take a folder of part images, or `count` rendered ones, through all four services and write a report.

    Args:
        data: folder with `train/good`, `test/good`, `test/<defect>`; None renders sample parts.
        out: folder for the report, its pictures and `summary.json`; made when it is not there.
        running: speaks to services that run, and is closed at the end; None starts services for as long as it lasts.
        count: sample parts to render, 15 or more; unused with `data`.
        console: where all that is for people goes; default standard output, and standard error for progress bars.

    Returns:
        What `summary.json` holds, and the path of `report`.

    Raises:
        BadFolder: the folder is not laid out like that.
        ServicesFailed: the services did not start.
        MekikiError: a service answered with an error.
    """
    started = datetime.now(UTC).astimezone()
    narrator = Narrator(console or Console(), console or Console(stderr=True))
    out.mkdir(parents=True, exist_ok=True)
    source = read_folder(data) if data else None  # refused before anything starts
    labelled: Labelled | None = None
    with ExitStack() as stack:
        wait_for_client = _start(running, out, stack)
        if source is None:  # rendered while the services start
            source, labelled = _render(out, count, narrator)
        with narrator.step("Wait for the four services"):
            client = stack.enter_context(wait_for_client())
        names = _Names.at(started)
        found = _inspect(client, names.parts, source, narrator)
        dataset = names.kinds if labelled else names.parts
        drawn = draw_from_labels(client, dataset, source, labelled, found.weights, narrator, out)
        versions = _versions(client, is_local=running is None)
    command = _tell_command(data, running)
    made = _circumstances(source, command, started, found, versions, drawn.classifier_weights, narrator)
    return _present(_collect(made, found, drawn), out, narrator)


def _start(running: Client | None, out: Path, stack: ExitStack) -> Callable[[], Client]:
    """Start services where none run; return what waits for them."""
    if running:
        return lambda: running
    host = stack.enter_context(host_services(out))
    return lambda: Client(host.wait())


def _tell_command(data: Path | None, running: Client | None) -> str:
    """Return the command that does it again."""
    if running:
        return f"mekiki demo --running --data {data}" if data else "mekiki demo --running"
    return f"make demo DATA={data}" if data else "make demo"


def _render(out: Path, count: int, narrator: Narrator) -> tuple[Source, Labelled]:
    """Return rendered images to work on."""
    with narrator.step("Render sample parts", count) as bar:
        source = render_source(out / "sample-parts", count, bar.show)
    kinds = max(count, 40)
    with narrator.step("Render labelled parts", kinds) as bar:
        labelled = render_labelled(out / "sample-kinds", kinds, bar.show)
    return source, labelled


def _inspect(client: Client, dataset: str, source: Source, narrator: Narrator) -> _Inspection:
    """Store, prepare, train, enrol, calibrate, judge."""
    with narrator.step("Store the images exactly", len(source.photos)) as bar:
        failures = steps.push_photos(client, dataset, source.photos, bar)
    usable = _without(source, {name for name, _ in failures})
    with narrator.step("Prepare: align, blank, HEVC") as bar:
        encoded = steps.encode_dataset(client, dataset, bar)
    normals = ItemFilter(
        dataset,
        tuple(photo.item_id for photo in usable.train),
        form=ItemForm.PREPARED,
        encoding_id=encoded.encoding.encoding_id,
    )
    detector, weights, promise = _teach(client, dataset, normals, usable, narrator)
    streamed, serving = _judge(client, dataset, usable.test, narrator)
    judged = tuple(_as_judged(photo, streamed.answers[photo.item_id]) for photo in usable.test)
    return _Inspection(
        sizes=steps.measure_sizes(client, dataset, encoded),
        encoded=encoded,
        detector=detector,
        weights=weights,
        promise=promise,
        judged=judged,
        journey=_follow_worst(client, normals, usable, judged),
        serving=serving,
        failures=tuple(failures),
    )


def _teach(
    client: Client, detector: str, normals: ItemFilter, source: Source, narrator: Narrator
) -> tuple[Detector, steps.Weights, Promise]:
    """Train the detector, fill its bank, set its threshold: all from normal parts."""
    with narrator.step("Train the detector") as bar:
        _, weights = steps.train_detector(client, detector, normals, steps.Weights(steps.BACKBONE, ""), bar)
    if weights.complaint:
        narrator.say(f"No pretrained weights, and accuracy suffers. {weights.complaint}")
    with narrator.step("Enrol the normal parts", len(source.train)) as bar:
        steps.enrol_normals(client, detector, normals, source.train, bar)
    with narrator.step("Set the threshold from normals") as bar:
        promise = steps.calibrate_detector(client, detector, normals, len(source.train), bar)
    return client.anomaly.get_detector(detector), weights, promise


def _judge(
    client: Client, detector: str, photos: tuple[Photo, ...], narrator: Narrator
) -> tuple[steps.Streamed, Serving]:
    """Stream the test images, then ask for some one by one."""
    with narrator.step("Judge the test images", len(photos)) as bar:
        streamed = steps.stream_photos(client, detector, photos, bar)
    with narrator.step("Time single calls", min(len(photos), steps.TIMED_CALLS)) as bar:
        serving = steps.time_calls(client, detector, photos, streamed, bar)
    return streamed, serving


def _without(source: Source, failed: set[str]) -> Source:
    return Source(
        source.title,
        tuple(photo for photo in source.train if photo.item_id not in failed),
        tuple(photo for photo in source.test if photo.item_id not in failed),
    )


def _as_judged(photo: Photo, scored: ScoredImage) -> Judged:
    pixels = read_pixels(photo.path)
    return Judged(
        item_id=photo.item_id,
        label=photo.label,
        score=scored.score,
        is_anomalous=scored.is_anomalous,
        aligned=scored.aligned,
        pixels=pixels,
        heatmap=scored.heatmap.values if scored.heatmap else pixels[:1, :1].astype("float32") * 0,
        region=steps.as_box(scored.region) if scored.region else None,
        truth=read_truth(photo, pixels.shape),
    )


def _follow_worst(client: Client, normals: ItemFilter, source: Source, judged: tuple[Judged, ...]) -> Journey | None:
    """Return the way of the part with the highest score, a defective one where there is one."""
    worst = max(judged, key=lambda image: (image.aligned, not image.is_good, image.score))
    photo = next(photo for photo in source.test if photo.item_id == worst.item_id)
    return steps.follow_part(client, normals, photo)


def _versions(client: Client, *, is_local: bool) -> tuple[tuple[str, str], ...]:
    """Return what computed: of services that ran elsewhere only their version is known."""
    product = ("Mekiki", client.check_service("anomaly").version or "unknown")
    machine = (
        ("Python", platform.python_version()),
        (platform.system(), f"{platform.release()} {platform.machine()}"),
        ("cores", str(os.cpu_count())),
    )
    return (product, *machine) if is_local else (product,)


def _circumstances(
    source: Source,
    command: str,
    started: datetime,
    found: _Inspection,
    versions: tuple[tuple[str, str], ...],
    classifier_weights: str,
    narrator: Narrator,
) -> Circumstances:
    detector = found.detector
    return Circumstances(
        source=source.title,
        started=started,
        command=command,
        versions=versions,
        detector=f"patch engine on {detector.weights.backbone}, {detector.enrolled_count:,} normal parts enrolled",
        detector_weights=found.weights.complaint or detector.weights.description,
        classifier_weights=classifier_weights,
        background=found.encoded.background_description,
        weights_missing=bool(found.weights.complaint),
        stages=tuple(narrator.stages),
    )


def _collect(made: Circumstances, found: _Inspection, drawn: Drawn) -> Results:
    return Results(
        circumstances=made,
        sizes=found.sizes,
        promise=found.promise,
        judged=found.judged,
        failures=found.failures,
        journey=found.journey,
        serving=found.serving,
        boxes=drawn.boxes,
        boxes_skipped=drawn.boxes_skipped,
        masks=drawn.masks,
        masks_skipped=drawn.masks_skipped,
    )


def _present(results: Results, out: Path, narrator: Narrator) -> dict[str, object]:
    """Write the report, print the figures and where it lies."""
    report = write_report(results, out)
    made = results.circumstances
    narrator.tell_figures(made.source, list_figures(results))
    narrator.say(f"Weights: {made.detector_weights}")
    narrator.say(f"Background: {made.background}")
    narrator.say(f"Report: {report.resolve()}")
    return {**summarise(results), "report": str(report.resolve())}
