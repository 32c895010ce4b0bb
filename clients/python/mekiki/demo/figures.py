"""The figures of `summary.json`, each with the words and the form in which people read it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mekiki.demo.curve import measure_auroc
from mekiki.demo.results import Boxes, Judged, Masks, Results
from mekiki.report.pictures import Box


@dataclass(frozen=True)
class Figure:
    """One figure."""

    name: str  # in summary.json
    value: float
    unit: str
    label: str  # for people
    shown: str  # the value, for people


def list_figures(results: Results) -> tuple[Figure, ...]:
    """Return all figures, in the order of the report."""
    return (
        *_judging(results),
        *_sizes(results),
        *_serving(results),
        *(_boxes(results.boxes) if results.boxes else ()),
        *(_masks(results.masks) if results.masks else ()),
        _total_time(results),
    )


def summarise(results: Results) -> dict[str, object]:
    """Return the content of `summary.json`."""
    made_with = results.circumstances
    return {
        "source": made_with.source,
        "started": made_with.started.isoformat(timespec="seconds"),
        "command": made_with.command,
        "detector": made_with.detector,
        "weights": made_with.detector_weights,
        "weights_missing": made_with.weights_missing,
        "background": made_with.background,
        "versions": dict(made_with.versions),
        "boxes_skipped": results.boxes_skipped,
        "masks_skipped": results.masks_skipped,
        "figures": [
            {"figure": f.name, "value": f.value, "unit": f.unit, "label": f.label, "shown": f.shown}
            for f in list_figures(results)
        ],
        "stages": [{"stage": stage.name, "seconds": round(stage.seconds, 2)} for stage in made_with.stages],
        "scores": {image.item_id: {"label": image.label, "score": image.score} for image in results.judged},
    }


def show_bytes(count: float) -> str:
    """Return a number of bytes as people read it, in powers of 1,000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def show_share(share: float) -> str:
    """Return a share as a percentage with as many digits as it deserves."""
    percent = 100 * share
    return f"{percent:.0f} %" if abs(percent - round(percent)) < 0.05 else f"{percent:.1f} %"


def show_duration(milliseconds: float) -> str:
    """Return a short time as people read it."""
    return f"{milliseconds:.0f} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.2g} s"


def show_ratio(ratio: float) -> str:
    """Return how many times smaller something is."""
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def box_iou(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    inter = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return inter / (areas - inter)


def mask_iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the intersection of two masks over their union, 0 to 1; 1 where both are empty."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def points_at_defect(image: Judged) -> bool:
    """Whether the heat map's peak lies on the true defect or within 3 % of the image's side of it."""
    if image.truth is None:
        return False
    row, column = np.unravel_index(int(image.heatmap.argmax()), image.heatmap.shape)
    y = (float(row) + 0.5) / image.heatmap.shape[0] * image.truth.shape[0]
    x = (float(column) + 0.5) / image.heatmap.shape[1] * image.truth.shape[1]
    rows, columns = np.nonzero(image.truth)
    return rows.size > 0 and float(np.hypot(rows - y, columns - x).min()) <= 0.03 * max(image.truth.shape)


def _judging(results: Results) -> tuple[Figure, ...]:
    promise, normals = results.promise, len(results.promise.normal_scores)
    rate, sure = promise.false_alarm_rate, show_share(promise.confidence)
    at_most = f"False alarms promised at most ({sure} sure)"
    value = promise.threshold
    return (
        *_verdicts(results.good, results.bad),
        Figure("threshold", value, "score", "Threshold, from normal parts alone", f"{value:.3f}"),
        Figure("promised_false_alarm_rate", rate, "share", at_most, show_share(rate)),
        Figure("calibration_normals", normals, "images", "Normal parts the promise rests on", f"{normals:,}"),
        *_localisation(results.bad),
    )


def _verdicts(good: tuple[Judged, ...], bad: tuple[Judged, ...]) -> list[Figure]:
    """Return what can be said of the verdicts: of an empty side of the test set, nothing."""
    figures = []
    if good and bad:
        auroc = measure_auroc([image.score for image in good], [image.score for image in bad])
        figures.append(Figure("image_auroc", auroc, "share", "Area under the ROC curve", f"{auroc:.3f}"))
    if bad:
        caught = sum(image.is_anomalous for image in bad)
        shown = f"{caught} of {len(bad)}"
        figures.append(Figure("defects_caught", caught, "images", "Defective parts caught", shown))
    if good:
        alarms = sum(image.is_anomalous for image in good)
        shown = f"{alarms} of {len(good)}"
        figures.append(Figure("false_alarms", alarms, "images", "False alarms on good parts", shown))
    return figures


def _localisation(bad: tuple[Judged, ...]) -> tuple[Figure, ...]:
    known = [image for image in bad if image.truth is not None]
    if not known:
        return ()
    hits = sum(points_at_defect(image) for image in known)
    return (Figure("peaks_on_defect", hits, "images", "Heat maps that peak on the defect", f"{hits} of {len(known)}"),)


def _sizes(results: Results) -> tuple[Figure, ...]:
    sizes = results.sizes
    lossless, prepared = sizes.lossless_bytes / sizes.original_bytes, sizes.original_bytes / sizes.prepared_bytes
    count, unaligned = sizes.image_count, len(sizes.unaligned)
    return (
        Figure("images", count, "images", "Images stored", f"{count:,}"),
        Figure("original_bytes", sizes.original_bytes, "bytes", "Files as they came", show_bytes(sizes.original_bytes)),
        Figure("lossless_bytes", sizes.lossless_bytes, "bytes", "Stored exactly", show_bytes(sizes.lossless_bytes)),
        Figure("lossless_share", lossless, "share", "Exact copy, share of the files", show_share(lossless)),
        Figure("prepared_bytes", sizes.prepared_bytes, "bytes", "Prepared version", show_bytes(sizes.prepared_bytes)),
        Figure("prepared_ratio", prepared, "ratio", "Prepared version smaller by", show_ratio(prepared)),
        Figure("unaligned_items", unaligned, "images", "Images that did not align", f"{unaligned} of {count:,}"),
    )


def _serving(results: Results) -> tuple[Figure, ...]:
    serving = results.serving
    half, most = np.percentile(serving.latencies_ms, [50, 99])
    rate = serving.streamed_count / serving.streamed_s
    calls = len(serving.latencies_ms)
    return (
        Figure("latency_p50_ms", float(half), "ms", "Answer to a single call, median", show_duration(half)),
        Figure("latency_p99_ms", float(most), "ms", "Answer to a single call, 99 of 100", show_duration(most)),
        Figure("throughput_per_s", rate, "1/s", "Images streamed per second", f"{rate:.1f} per second"),
        Figure("equal_scores", serving.agreed_count, "images", "Single and streamed score equal to the last bit",
               f"{serving.agreed_count} of {calls}"),
    )  # fmt: skip


def _boxes(boxes: Boxes) -> tuple[Figure, ...]:
    review = sum(image.needs_review for image in boxes.images)
    ious = [box_iou(image.box, image.truth) for image in boxes.images if image.truth is not None]
    count = len(boxes.images)
    figures = (
        Figure("validation_accuracy", boxes.validation_accuracy, "share", "Classifier, accuracy on held-out images",
               show_share(boxes.validation_accuracy)),
        Figure("boxes_drawn", count, "images", "Boxes drawn from labels alone", f"{count:,}"),
        Figure("boxes_to_review", review, "images", "Boxes marked for a person", f"{review} of {count:,}"),
    )  # fmt: skip
    if not ious:
        return figures
    mean, fair = float(np.mean(ious)), sum(iou >= 0.5 for iou in ious)
    return (
        *figures,
        Figure("box_mean_iou", mean, "share", "Overlap with the true box (IoU), mean", f"{mean:.2f}"),
        Figure("boxes_over_half", fair, "images", "Boxes with an IoU of 0.5 or more", f"{fair} of {len(ious)}"),
    )


def _masks(masks: Masks) -> tuple[Figure, ...]:
    count, found = len(masks.images), sum(bool(image.mask.any()) for image in masks.images)
    figures = (Figure("masks_found", found, "images", "Outlines found from labels alone", f"{found} of {count:,}"),)
    ious = [mask_iou(image.mask, image.truth) for image in masks.images if image.truth is not None]
    if not ious:
        return figures
    mean = float(np.mean(ious))
    return (
        *figures,
        Figure("mask_mean_iou", mean, "share", "Overlap with the true outline (IoU), mean", f"{mean:.2f}"),
    )


def _total_time(results: Results) -> Figure:
    seconds = sum(stage.seconds for stage in results.circumstances.stages)
    return Figure("total_seconds", seconds, "s", "The whole demonstration", f"{seconds:.0f} seconds")
