"""Commands that write reports, against a server that answers what it is told to."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mekiki._values.image import to_image
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.cli.app import app
from mekiki.cli.codes import ExitCode
from mekiki.cli.trials import read_configuration
from mekiki.codec.v1 import codec_pb2
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.images import encode_heatmap
from tests.client.test_cli import ends_with

HOSTILE = "<script>alert(1)</script>"
SCORES = {"good-1": 0.1, "good-2": 0.7, "bent-1": 0.3, "bent-2": 0.9}


@pytest.fixture
def mekiki(server):
    def invoke(*arguments):
        return CliRunner().invoke(app, list(map(str, arguments)), env={"MEKIKI_ADDRESS": server.address})

    return invoke


@pytest.fixture
def measured(server):
    """A server with items, and a detector that judges any of them."""

    def read(request, _context):
        for name in request.items.item_ids:
            yield codec_pb2.ReadItemsResponse(
                item=codec_pb2.Item(item_id=name), image=to_image(np.full((40, 60), 128, np.uint8))
            )

    heat = encode_heatmap(np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6))
    verdict = anomaly_pb2.ScoreImageResponse(score=0.5, heatmap=heat, region=types_pb2.Box(x_max=9, y_max=9))
    detector = anomaly_pb2.Detector(name="parts", version=7, thresholds=[anomaly_pb2.Threshold(value=0.5)])
    server.answers |= {
        "ReadItems": read,
        "ScoreImage": lambda _r, _c: verdict,
        "GetDetector": lambda _r, _c: anomaly_pb2.GetDetectorResponse(detector=detector),
    }
    return server


def evaluation(**fields):
    response = anomaly_pb2.EvaluateDetectorResponse(image_auroc=0.75, average_precision=0.8, **fields)
    response.labels.add(label="good", item_count=2)
    response.labels.add(label=HOSTILE, item_count=2, image_auroc=0.75)
    response.shortcuts.add(name="brightness", image_auroc=0.9, lower=0.8, upper=1.0, flatters=True)
    return response


def scores():
    labels = {name: "good" if name.startswith("good") else HOSTILE for name in SCORES}
    return [anomaly_pb2.ItemScore(item_id=name, label=labels[name], score=score) for name, score in SCORES.items()]


def test_an_evaluations_report_shows_the_mistakes_and_warns(measured, mekiki, tmp_path):
    curve = [anomaly_pb2.RocPoint(), anomaly_pb2.RocPoint(false_alarm_rate=1, detection_rate=1)]
    rates = {name: anomaly_pb2.Rate(count=1, total=2) for name in ("false_alarms", "misses")}
    model = types_pb2.ModelRef(name="parts", version=7)
    ends_with(measured, "EvaluateDetector", evaluation(roc=curve, scores=scores(), model=model, f1=0.5, **rates))
    result = mekiki("evaluate", "parts", "screws", "--report", tmp_path / "out")
    assert result.exit_code == ExitCode.DONE, result.output
    assert f"report: {tmp_path / 'out' / 'report.html'}" in result.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1 of 2 missed" in page.replace("<i>", "").replace("</i>", "")
    assert "The brightness alone tells good from bad" in page
    assert HOSTILE not in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["image_auroc"] == 0.75
    shown = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    kinds = ("miss-1", "alarm-1", "found-1", "passed-1")
    assert shown == {f"{kind}{heat}.jpg" for kind in kinds for heat in ("", "-heat")}
    assert {call.requests[0].detector for call in measured.calls("ScoreImage")} == {"parts@7"}


def test_a_report_holds_each_item_against_the_threshold_of_its_category(measured, mekiki, tmp_path):
    thresholds = [
        anomaly_pb2.Threshold(value=v, category=kind, normal_count=30) for v, kind in ((0.5, "a"), (0.8, "b"))
    ]
    detector = anomaly_pb2.Detector(name="parts", version=7, thresholds=thresholds)
    measured.answers["GetDetector"] = lambda _r, _c: anomaly_pb2.GetDetectorResponse(detector=detector)
    items = scores()
    for item, kind in zip(items, "abbb", strict=True):  # good .1 and .7, bent .3 and .9
        item.category = kind
    rates = {name: anomaly_pb2.Rate(count=1, total=2) for name in ("false_alarms", "misses")}
    ends_with(measured, "EvaluateDetector", evaluation(scores=items, f1=0.5, **rates))
    result = mekiki("evaluate", "parts", "screws", "--report", tmp_path / "out")
    assert result.exit_code == ExitCode.DONE, result.output
    assert [line[:12] for line in result.stdout.splitlines() if "threshold" in line] == ["a: threshold", "b: threshold"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The thresholds of 2 categories were set from 60 normals" in page
    assert "judged as b" in page
    shown = {path.name for path in (tmp_path / "out" / "pictures").iterdir() if "heat" not in path.name}
    assert shown == {"miss-1.jpg", "found-1.jpg", "passed-1.jpg", "passed-2.jpg"}  # .7 is no false alarm of b


def test_without_a_terminal_nothing_is_written_unasked(measured, mekiki):
    ends_with(measured, "EvaluateDetector", evaluation())
    assert "report" not in mekiki("evaluate", "parts", "screws").stdout
    assert not measured.calls("ScoreImage")


def made_trials():
    response = anomaly_pb2.RunTrialsResponse()
    for name, aurocs in (("patch-prepared", [0.99, 0.97, 0.98]), ("metric-loss.arcface", [0.7, 0.9, 0.6])):
        series = response.series.add(detector=name, scores=scores())
        series.weights.description = "from somewhere"
        for seed, auroc in enumerate(aurocs):
            made = evaluation()
            made.image_auroc = auroc
            series.trials.add(seed=seed, evaluation=made).train_duration.FromSeconds(2)
    return response


def test_trials_are_told_with_medians_and_drawn_side_by_side(measured, mekiki, tmp_path):
    ends_with(measured, "RunTrials", made_trials())
    wanted = ("-c", "patch,prepared", "-c", "metric,loss=arcface,epochs=5,backbone=small", "--count", 3, "--seed", 4)
    result = mekiki("trials", "screws", *wanted, "--report", tmp_path)
    assert result.exit_code == ExitCode.DONE, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["patch-prepared", "3", "0.9800", "0.9700", "0.9900", "2.0"] in rows
    assert ["metric-loss.arcface", "3", "0.7000", "0.6000", "0.9000", "2.0"] in rows
    page = (tmp_path / "report.html").read_text()
    assert "patch-prepared has the highest median: 0.980" in page
    assert "0.700 (0.600 to 0.900)" in page
    assert HOSTILE not in page
    assert (tmp_path / "pictures" / "miss-1.jpg").exists()
    (asked,) = [call.requests[0] for call in measured.calls("RunTrials")]
    assert (asked.trial_count, asked.items.dataset, list(asked.items.splits)) == (3, "screws", ["test"])
    patch, metric = asked.configurations
    assert (patch.WhichOneof("engine"), patch.items.form) == ("patch", types_pb2.ITEM_FORM_PREPARED)
    assert (metric.metric.loss, metric.metric.epochs) == (anomaly_pb2.METRIC_LOSS_ARCFACE, 5)
    assert (metric.backbone, metric.seed, metric.items.form) == ("small", 4, types_pb2.ITEM_FORM_ORIGINAL)
    assert list(metric.items.splits) == ["train"]


@pytest.mark.parametrize("words", ["forest", "metric,loss=hinge", "patch,colour=red", "patch,same_place=perhaps"])
def test_a_configuration_that_is_none_is_refused(measured, mekiki, words):
    result = mekiki("trials", "screws", "-c", words)
    assert result.exit_code == ExitCode.USAGE
    assert words.split(",")[-1].split("=")[-1] in result.stderr or words.split(",")[0] in result.stderr
    assert not measured.calls("RunTrials")


def test_a_configuration_without_a_name_is_called_by_its_words():
    from mekiki import ItemFilter

    read = read_configuration("patch,prepared,input_side=512,same_place=true", ItemFilter("screws"))
    assert read.name == "patch-prepared-input_side.512-same_place.true"
    assert (read.engine.input_side, read.engine.same_place) == (512, True)
    assert read_configuration("padim,name=gauss", ItemFilter("screws")).name == "gauss"


def trained(split_by="look_alikes"):
    told = saliency_pb2.ClassifierEvaluation(
        accuracy=saliency_pb2.Rate(count=7, total=9, lower=0.45, upper=0.94),
        calibration_error=0.04,
        raw_calibration_error=0.11,
        held_out_unit_count=6,
        look_alike_cosine=0.8,
    )
    for label, count in (("nut", 4), (HOSTILE, 3)):
        told.labels.add(label=label, recall=saliency_pb2.Rate(count=count, total=count + 1, lower=0.3, upper=0.9))
        told.confusion.add(label=label, predicted_label=label, count=count)
    for number, (label, said) in enumerate((("nut", HOSTILE), (HOSTILE, "nut"))):
        told.confusion.add(label=label, predicted_label=said, count=1)
        told.mistakes.add(item_id=f"{HOSTILE}-{number}", label=label, predicted_label=said, probability=0.8)
    told.mistakes.add(item_id="gone", label="nut", predicted_label=HOSTILE, probability=0.6)
    classifier = saliency_pb2.Classifier(
        name="kinds", version=2, labels=["nut", HOSTILE], split_by=split_by, temperature=1.7, evaluation=told
    )
    return saliency_pb2.TrainClassifierResponse(classifier=classifier)


def test_a_trainings_report_shows_the_confusion_matrix_and_the_worst_mistakes(measured, mekiki, tmp_path):
    read = measured.answers["ReadItems"]
    measured.answers["ReadItems"] = lambda request, context: (
        answer for answer in read(request, context) if answer.item.item_id != "gone"
    )
    ends_with(measured, "TrainClassifier", trained())
    result = mekiki("train", "classifier", "kinds", "screws", "--recipe", "original", "--report", tmp_path)
    assert result.exit_code == ExitCode.DONE, result.output
    assert "split by look-alikes" in result.stdout
    assert "expected calibration error 0.040, 0.110 before calibration" in result.stdout
    (asked,) = [call.requests[0] for call in measured.calls("TrainClassifier")]
    assert asked.recipe == saliency_pb2.CLASSIFIER_RECIPE_ORIGINAL
    page = (tmp_path / "report.html").read_text()
    assert "knows 77.8 % of the images" in page
    assert "6 sets of them were held out" in page
    assert "80% sure" in page
    assert HOSTILE not in page
    shown = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert shown == {"confusion.svg", "mistake-1.jpg", "mistake-2.jpg"}
    assert HOSTILE not in (tmp_path / "pictures" / "confusion.svg").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["evaluation"]["accuracy"]["count"] == 7


def test_a_split_that_flatters_is_said_by_command_and_report(measured, mekiki, tmp_path):
    ends_with(measured, "TrainClassifier", trained("image"))
    result = mekiki("train", "classifier", "kinds", "screws", "--report", tmp_path)
    assert "this flatters" in result.stderr
    assert "This split flatters" in (tmp_path / "report.html").read_text()


def test_of_many_labels_those_with_the_most_mistakes_are_drawn():
    from mekiki import ConfusionCell
    from mekiki.report.confusion import choose_labels, draw_confusion

    labels = [f"l{number:02d}" for number in range(60)]
    cells = [ConfusionCell(label, label, 5) for label in labels] + [ConfusionCell("l55", "l07", 3)]
    drawn = choose_labels(labels, cells, most=10)
    assert len(drawn) == 10
    assert {"l55", "l07"} <= set(drawn)
    picture = draw_confusion(drawn, cells)
    assert picture.count("<rect") == 100 + 10 + 1


def tuning(crf):
    response = anomaly_pb2.TuneCompressionResponse(
        crf=crf, raw_auroc=0.9, prepared_auroc=0.95, normal_count=6, defect_count=6, defect_strength=2
    )
    for tried, loss in ((20, 0.001), (33, 0.002), (34, 0.02)):
        response.points.add(
            crf=tried, frame_bytes=10_000 / tried, auroc=0.95 - loss, loss=loss, loss_upper=2 * loss, even_loss=loss
        )
    return response


def test_encode_finds_the_rate_factor_encodes_at_it_and_draws_the_curve(server, mekiki, tmp_path):
    def encode(request, context):
        options = codec_pb2.EncodingOptions()
        options.CopyFrom(request.options)
        options.crf = options.crf or 28
        encoding = codec_pb2.Encoding(encoding_id=f"at-{options.crf}", item_count=6, options=options)
        ends_with(server, "EncodeDataset", codec_pb2.EncodeDatasetResponse(encoding=encoding))
        answer, server.answers["EncodeDataset"] = server.answers["EncodeDataset"], encode
        return answer(request, context)

    server.answers["EncodeDataset"] = encode
    ends_with(server, "TuneCompression", tuning(33))
    result = mekiki("encode", HOSTILE, "--max-loss", 0.005, "--judge", "padim,input_side=384", "--report", tmp_path)
    assert result.exit_code == ExitCode.DONE, result.output
    first, second = [call.requests[0] for call in server.calls("EncodeDataset")]
    assert (first.options.HasField("crf"), second.options.crf) == (False, 33)
    (asked,) = [call.requests[0] for call in server.calls("TuneCompression")]
    assert (asked.max_loss, asked.judge.padim.input_side) == (0.005, 384)
    assert (asked.judge.items.encoding_id, list(asked.judge.items.splits)) == ("at-28", ["train"])
    assert asked.judge.items.form == types_pb2.ITEM_FORM_PREPARED
    page = (tmp_path / "report.html").read_text()
    assert "At rate factor 33 a frame takes 303 bytes" in page
    assert HOSTILE not in page
    assert json.loads((tmp_path / "report.json").read_text())["crf"] == 33


def test_encode_stays_at_its_rate_factor_where_every_one_costs_too_much(server, mekiki, tmp_path):
    encoding = codec_pb2.Encoding(encoding_id="prepared-1", options=codec_pb2.EncodingOptions(crf=28))
    ends_with(server, "EncodeDataset", codec_pb2.EncodeDatasetResponse(encoding=encoding))
    ends_with(server, "TuneCompression", tuning(None))
    result = mekiki("encode", "parts", "--max-loss", 0.0001, "--report", tmp_path)
    assert result.exit_code == ExitCode.DONE, result.output
    assert "even rate factor 20 costs more than 0.0001" in result.stderr
    assert len(server.calls("EncodeDataset")) == 1
    assert "Even at rate factor 20" in (tmp_path / "report.html").read_text()


def test_encode_refuses_a_rate_factor_that_is_both_given_and_sought(server, mekiki):
    result = mekiki("encode", "parts", "--max-loss", 0.005, "--crf", 30)
    assert result.exit_code == ExitCode.USAGE
    assert "leave --crf out" in result.stderr
    assert not server.calls("EncodeDataset")
