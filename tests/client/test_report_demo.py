"""The demonstration against services that answer at once: what it asks them, and what it makes of their answers."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mekiki import (
    Annotation,
    Answer,
    Box,
    Calibration,
    Classifier,
    Detector,
    EncodedCategory,
    EncodedDataset,
    Encoding,
    EncodingOptions,
    Heatmap,
    Item,
    ModelRef,
    PatchEngine,
    Progress,
    ReadItem,
    ScoredImage,
    Segment,
    Segmentation,
    ServiceStatus,
    Threshold,
    Verdict,
    WeightsOrigin,
    errors,
)
from mekiki.demo import BadFolder, ServicesFailed, run_demo
from mekiki.demo.host import host_services

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ADVICE = "Put mobilenetv2_100.safetensors into the folder."


def done(result):
    seen = Progress("Verb", "phase", 1, 1, {}, NOW, NOW)
    return SimpleNamespace(done=lambda: True, seen=seen, result=lambda: result)


def fail(error):
    def result():
        raise error

    return SimpleNamespace(done=lambda: True, seen=None, result=result)


@dataclass
class Services:
    """All four services and the client to them, in a hundred lines."""

    has_weights: bool = True
    bad_file: str = ""
    photos: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def __post_init__(self):
        self.codec = self.anomaly = self.saliency = self.boxfit = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def check_service(self, service, **_):
        return ServiceStatus(service, "", "serving", "1.2.3", "")

    def create_dataset(self, dataset):
        self.photos[dataset] = {}

    def append_items(self, dataset, items):
        for item in items:
            if self.bad_file and item.item_id.endswith(self.bad_file):
                yield Answer(item.item_id, None, errors.InvalidArgument("truncated"))
                continue
            self.photos[dataset][item.item_id] = item
            yield Answer(item.item_id, item, None)

    def encode_dataset(self, dataset):
        self.asked.append(("encode", dataset))
        kind = EncodedCategory("", 9, "a.png", 64, 32, None, "")
        encoding = Encoding("prepared-1", EncodingOptions(crf=28), 1, 9, {"x.png": "odd"}, 900, (kind,), NOW, 0.0)
        return done(EncodedDataset(encoding, "Contrast against the border."))

    def get_dataset(self, dataset):
        return SimpleNamespace(item_count=len(self.photos[dataset]), original_bytes=90_000, stored_bytes=60_000)

    def _weights(self, backbone):
        return WeightsOrigin(backbone, "directory", f"{backbone}, read from a folder.")

    def train_detector(self, detector, items, engine, backbone):
        self.asked.append(("train", backbone, items))
        if not self.has_weights and backbone != "small":
            return fail(errors.FailedPrecondition(ADVICE, reason="WEIGHTS_MISSING"))
        self.backbone = backbone
        return done(self.get_detector(detector))

    def get_detector(self, name):
        return Detector(
            name, 1, PatchEngine(), self._weights(self.backbone), "", "", 2, 9, 9, {}, NOW, True, None, None, None
        )

    def enroll_items(self, detector, items):
        self.asked.append(("enrol", [item.item_id for item in items]))

    def calibrate_detector(self, detector, items, false_alarm_rate, confidence):
        self.asked.append(("calibrate", items.item_ids, false_alarm_rate))
        threshold = Threshold(0.5, false_alarm_rate, confidence, len(items.item_ids), 2, NOW)
        return done(Calibration({"": threshold}, {"": np.linspace(0.1, 0.5, len(items.item_ids))}))

    def score_image(self, detector, image):
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
        score = float(pixels.max()) / 255
        verdict = Verdict.ANOMALOUS if score > 0.5 else Verdict.NORMAL
        region = Box(1, 1, 9, 9) if score > 0.5 else None
        heat = Heatmap(np.full((4, 4), score, np.float32))
        return ScoredImage(score, verdict, 0.5, heat, region, "", ModelRef(detector, 1, 2), True, 32, 32, None)

    def score_images(self, detector, images):
        for frame in images:
            yield Answer(frame.id, self.score_image(detector, frame.value), None)

    def read_items(self, items):
        for item_id in items.item_ids or self.photos[items.dataset]:
            label = self.photos[items.dataset][item_id].labels[0]
            boxes = () if label == "empty" else (Annotation(Box(2, 2, 20, 20), label, 0.4, needs_review=True),)
            item = Item(item_id, (label,), "", "", "", 32, 32, 3, 8, boxes, "", NOW, has_mask=False)
            yield ReadItem(item, None, np.zeros((32, 32, 3), np.uint8), None, None)

    def train_classifier(self, classifier, items, backbone):
        self.asked.append(("classifier", backbone, items))
        labels = ("bad", "good")
        return done(Classifier(classifier, 1, labels, self._weights(backbone), 224, 0.9, "image", 8, 2, 3, NOW))

    def train_segmenter(self, segmenter, items, normal_labels, backbone, input_size):
        self.asked.append(("segmenter", backbone, items, normal_labels))
        return done(SimpleNamespace(labels=("nut", "screw", "washer")))

    def segment_images(self, segmenter, images):
        for frame in images:
            assert frame.value.startswith(b"\x89PNG")
            label = frame.id.split("/")[1]
            mask = np.zeros((384, 384), bool)
            mask[:, :96] = True
            segment = Segment(label, mask, Box(0, 0, 96, 384), int(mask.sum()), None, 0.7)
            yield Answer(frame.id, Segmentation((segment,), ModelRef(segmenter, 1), 384, 384), None)

    def annotate_dataset(self, classifier, items, **arguments):
        self.asked.append(("annotate", items, arguments))
        return done(None)


def make_folder(folder, bad=10):
    for place, count, brightness in (("train/good", 20, 60), ("test/good", 10, 70), ("test/bad", bad, 220)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((32, 32), brightness + number, np.uint8)
            cv2.imwrite(str(folder / place / f"{number:02d}.png"), pixels)
    return folder


def run_against(services, monkeypatch, tmp_path, data) -> dict:
    told = run_demo(data, tmp_path / "out", services, 20)
    assert told.pop("report") == str(tmp_path / "out" / "report.html")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert told == summary
    return {**summary, **{f["figure"]: f["value"] for f in summary["figures"]}}


def test_a_users_folder_goes_all_the_way(monkeypatch, tmp_path, capsys):
    services = Services()
    summary = run_against(services, monkeypatch, tmp_path, make_folder(tmp_path / "parts"))
    assert summary["image_auroc"] == 1
    assert summary["defects_caught"] == 10
    assert summary["equal_scores"] == 20
    assert summary["boxes_drawn"] == 5
    assert summary["prepared_ratio"] == 100
    printed = capsys.readouterr().out
    assert "report.html" in printed.replace("\n", "")
    assert "Defective parts caught" in printed


def test_only_normal_training_images_train_enrol_and_calibrate(monkeypatch, tmp_path):
    services = Services()
    run_against(services, monkeypatch, tmp_path, make_folder(tmp_path / "parts"))
    asked = {name: rest for name, *rest in services.asked}
    normals = tuple(f"train/good/{number:02d}.png" for number in range(20))
    assert asked["train"][1].item_ids == normals
    assert asked["calibrate"][0] == normals
    enrolled = [item for name, *rest in services.asked if name == "enrol" for item in rest[0]]
    assert tuple(enrolled) == normals


def test_the_promise_asked_for_is_one_the_normals_can_keep(monkeypatch, tmp_path):
    services = Services()
    summary = run_against(services, monkeypatch, tmp_path, make_folder(tmp_path / "parts"))
    rate = summary["promised_false_alarm_rate"]
    assert (1 - rate) ** 20 <= 0.05 < (1 - (rate - 0.001)) ** 20


def test_missing_weights_fall_back_and_are_said_aloud(monkeypatch, tmp_path, capsys):
    services = Services(has_weights=False)
    summary = run_against(services, monkeypatch, tmp_path, make_folder(tmp_path / "parts"))
    assert [entry[1] for entry in services.asked if entry[0] == "train"] == ["mobilenetv2_100", "small"]
    assert next(entry[1] for entry in services.asked if entry[0] == "classifier") == "small"
    assert summary["weights_missing"] is True
    assert ADVICE in " ".join(capsys.readouterr().out.split())
    assert ADVICE in (tmp_path / "out" / "report.html").read_text()


def test_a_file_that_cannot_be_used_is_left_out_and_named(monkeypatch, tmp_path):
    services = Services(bad_file="good/03.png")
    run_against(services, monkeypatch, tmp_path, make_folder(tmp_path / "parts"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "train/good/03.png (truncated)" in page
    assert "test/good/03.png (truncated)" in page


def test_too_few_labels_skip_the_boxes_with_the_reason(monkeypatch, tmp_path):
    summary = run_against(Services(), monkeypatch, tmp_path, make_folder(tmp_path / "parts", bad=2))
    assert "two labels" in summary["boxes_skipped"]
    assert "boxes_drawn" not in summary


def test_without_a_folder_sample_parts_are_rendered(monkeypatch, tmp_path):
    services = Services()
    summary = run_against(services, monkeypatch, tmp_path, None)
    assert summary["source"] == "20 sample screws"
    assert summary["boxes_drawn"] == 30  # of 40 labelled pictures, a quarter bare tables
    assert (summary["masks_found"], summary["masks_skipped"]) == (30, "")
    assert 0 < summary["mask_mean_iou"] < 0.5
    assert next(entry[1::2] for entry in services.asked if entry[0] == "segmenter") == ("mobilenetv2_100", ("empty",))
    assert (tmp_path / "out/voc/ImageSets/Main/trainval.txt").read_text().count("\n") == 30


def test_no_outlines_are_learnt_without_weights(monkeypatch, tmp_path):
    services = Services(has_weights=False)
    summary = run_against(services, monkeypatch, tmp_path, None)
    assert "weights" in summary["masks_skipped"]
    assert not any(entry[0] == "segmenter" for entry in services.asked)


def test_services_that_do_not_start_leave_the_end_of_their_log(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServicesFailed, match="services"), host_services(tmp_path) as host:
        host.wait()


def test_a_bad_folder_is_refused_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("the services were started"))
    with pytest.raises(BadFolder):
        run_demo(tmp_path / "nowhere", tmp_path / "out", None, 20)
