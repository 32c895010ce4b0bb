import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from mekiki.demo.cards import choose_fairly
from mekiki.demo.report import write_report
from mekiki.demo.results import (
    Boxed,
    Boxes,
    Circumstances,
    Journey,
    Judged,
    Masked,
    Masks,
    Promise,
    Results,
    Serving,
    Sizes,
    Stage,
)
from mekiki.sample_parts import DEFECTS
from mekiki.sample_parts.folder import bound, render_station
from mekiki.sample_parts.part import PARTS, SCREW

HOSTILE = "\"><script>alert(1)</script>&'<img src=x onerror=alert(2)>"


def judge(index: int, defect: str, size: int) -> Judged:
    picture = render_station(SCREW, defect, 2, index, size)
    rng = np.random.default_rng(index)
    heat = 0.8 + 0.1 * rng.random((32, 32))
    if defect:
        spot = cv2.GaussianBlur(picture.spoilt.astype(np.float32), (0, 0), size / 40)
        heat += 1.9 * cv2.resize(spot / spot.max(), (32, 32), interpolation=cv2.INTER_AREA) * rng.uniform(0.4, 1)
    score = float(heat.max())
    anomalous = score > 1.1
    region = bound(picture.spoilt) if anomalous else None
    truth = picture.spoilt if defect else None
    return Judged(
        f"test/{defect or 'good'}/{index:04d}.png", defect or "good", score, anomalous, True, picture.pixels,
        heat.astype(np.float32), region, truth,
    )  # fmt: skip


def box(index: int, size: int) -> Boxed:
    part = PARTS[index % 3]
    picture = render_station(part, "", 3, index, size)
    left, top, right, bottom = bound(picture.part)
    found = (left + index, top - index % 5, right - 2, bottom + index % 7)
    return Boxed(
        f"images/{part.name}/{index:04d}.png", part.name, found, 0.95 - index / 30, index > 10, picture.pixels,
        (left, top, right, bottom),
    )  # fmt: skip


def mask(index: int, size: int) -> Masked:
    part = PARTS[index % 3]
    picture = render_station(part, "", 3, index, size)
    found = picture.part if index else np.zeros_like(picture.part)  # the first one is not found
    return Masked(f"images/{part.name}/{index:04d}.png", part.name, found, 0.8, picture.pixels, picture.part)


def build_results(size: int = 96, defect_label: str = "") -> Results:
    """Return results as the demonstration would, from rendered parts and made-up heat maps."""
    judged = [judge(index, "", size) for index in range(8)]
    judged += [judge(20 + index, DEFECTS[index % 5], size) for index in range(10)]
    if defect_label:
        judged[-1] = replace(judged[-1], label=defect_label, item_id=f"test/{defect_label}/1.png")
    worst = max(judged, key=lambda image: image.score)
    rng = np.random.default_rng(0)
    return Results(
        circumstances=Circumstances(
            source="100 sample screws",
            started=datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
            command="make demo",
            versions=(("mekiki", "0.1.0"), ("Python", "3.11.2"), ("Linux", "6.1 x86_64")),
            detector="patch engine on mobilenetv2_100",
            detector_weights="mobilenetv2_100 from the weights directory.",
            classifier_weights="mobilenetv2_100 from the hub's cache.",
            background="rembg (U^2-Net).",
            weights_missing=False,
            stages=(Stage("render sample parts", 12.1), Stage("push", 4.25), Stage("encode", 21.0)),
        ),
        sizes=Sizes(100, 37_700_000, 21_400_000, 301_000, 28, 640, 224, (("train/good/0007.png", "mask IoU .41"),)),
        promise=Promise(1.1, 0.049, 0.95, tuple(0.86 + 0.2 * rng.random(60))),
        judged=tuple(judged),
        failures=(),
        journey=Journey(worst.item_id, worst.pixels, worst.pixels[size // 4 : -size // 4]),
        serving=Serving(tuple(60 + 25 * rng.random(40) ** 3), 40, 1.9, 40),
        boxes=Boxes(
            ("screw", "nut", "washer"), 64, 16, 0.9375, "image", 9, tuple(box(i, size) for i in range(15)),
            "Screws, nuts, washers and bare tables, one label a picture.", "voc",
        ),
        boxes_skipped="",
        masks=Masks(("nut", "screw", "washer"), tuple(mask(i, size) for i in range(7))),
        masks_skipped="",
    )  # fmt: skip


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in {"src", "href", "action", "data", "poster"}]
        self.handlers = [name for name, _ in attrs if name.startswith("on")]
        assert not self.handlers

    def handle_data(self, data):
        self.words.append(data)


def read(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    return outline


@pytest.fixture(scope="module")
def results():
    return build_results()


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return write_report(results, out)


def test_every_figure_of_the_summary_stands_in_the_report(written):
    words = " ".join(" ".join(read(written.read_text()).words).split())
    summary = json.loads((written.parent / "summary.json").read_text())
    assert len(summary["figures"]) > 15
    for figure in summary["figures"]:
        assert figure["shown"] in words, figure
        assert figure["label"] in words, figure
        assert np.isfinite(figure["value"])


def test_the_summary_counts_what_was_judged(written, results):
    figures = {f["figure"]: f for f in json.loads((written.parent / "summary.json").read_text())["figures"]}
    caught = sum(image.is_anomalous for image in results.bad)
    assert figures["defects_caught"]["value"] == caught
    assert figures["defects_caught"]["shown"] == f"{caught} of 10"
    assert figures["prepared_ratio"]["value"] == pytest.approx(37_700_000 / 301_000)
    assert figures["box_mean_iou"]["value"] < 1


def test_the_report_fetches_nothing_and_runs_nothing(written):
    page = written.read_text()
    outline = read(page)
    assert outline.sources
    assert all(source.startswith("data:") for source in outline.sources)
    assert not {"script", "link", "iframe", "object"} & set(outline.tags)
    assert re.findall(r"https?://[^\s\"'<]+", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert not re.search(r"url\(|@import", page)


def test_the_pictures_lie_beside_the_report(written):
    pictures = {path.suffix for path in (written.parent / "pictures").iterdir()}
    assert pictures == {".jpg", ".svg"}


def test_hostile_names_and_labels_are_escaped(tmp_path):
    hostile = build_results(defect_label=HOSTILE)
    boxed = replace(hostile.boxes.images[0], label=HOSTILE, item_id=HOSTILE)
    hostile = replace(
        hostile,
        boxes=replace(hostile.boxes, labels=(HOSTILE,), images=(boxed,), note=HOSTILE),
        circumstances=replace(hostile.circumstances, source=HOSTILE, command=HOSTILE, detector_weights=HOSTILE),
    )
    page = write_report(hostile, tmp_path).read_text()
    assert HOSTILE not in page
    assert "script" not in read(page).tags
    assert HOSTILE in "".join(read(page).words)
    assert all(path.resolve().parent == (tmp_path / "pictures").resolve() for path in (tmp_path / "pictures").iterdir())


def test_missing_weights_are_said_aloud(tmp_path, results):
    made = replace(results.circumstances, weights_missing=True, detector_weights="Put FILE into DIR.")
    words = "".join(read(write_report(replace(results, circumstances=made), tmp_path).read_text()).words)
    assert "accuracy suffers" in words
    assert "Put FILE into DIR." in words


def test_without_boxes_the_reason_is_given(tmp_path, results):
    words = "".join(
        read(write_report(replace(results, boxes=None, boxes_skipped="only one label."), tmp_path).read_text()).words
    )
    assert "only one label." in words


@pytest.mark.parametrize("kept", ["good", "bad"])
def test_a_test_set_of_one_side_only_still_makes_a_report(tmp_path, results, kept):
    judged = results.good if kept == "good" else results.bad
    half = replace(results, judged=judged, journey=None)
    assert write_report(half, tmp_path).stat().st_size > 10_000
    assert "NaN" not in (tmp_path / "summary.json").read_text()


def test_without_outlines_the_reason_is_given(tmp_path, results):
    changed = replace(results, masks=None, masks_skipped="no weights.")
    assert "no weights." in "".join(read(write_report(changed, tmp_path).read_text()).words)


def test_outlines_are_shown_and_judged(tmp_path, results):
    page = write_report(results, tmp_path).read_text()
    words = " ".join("".join(read(page).words).split())
    assert "It finds 6 of 7. With the true outlines they overlap (IoU) by 0.86 on average." in words
    assert "not found" in words
    assert len(list((tmp_path / "pictures").glob("mask-*"))) == 7


def test_the_choice_of_boxes_takes_the_labels_in_turn(results):
    chosen = choose_fairly(results.boxes.images, 6)
    assert sorted(image.label for image in chosen) == ["nut", "nut", "screw", "screw", "washer", "washer"]
