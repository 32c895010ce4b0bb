import io
import json

import numpy as np
import pytest
import typer
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health_pb2
from PIL import Image
from typer.testing import CliRunner

from mekiki._values.image import to_image
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.cli.app import app, run
from mekiki.cli.codes import EPILOG, ExitCode
from mekiki.codec.v1 import codec_pb2
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2

HOSTILE = "[bold red]x[/] \x1b[31m \u202e \n.png"
BAD = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="image.encoded: \x1b[31m no image")


@pytest.fixture
def mekiki(server):
    def invoke(*arguments, address=server.address, typed=None):
        return CliRunner().invoke(app, list(map(str, arguments)), input=typed, env={"MEKIKI_ADDRESS": address})

    return invoke


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def write(path, value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8), value, np.uint8)).save(path, "PNG")
    return path


def ends_with(server, rpc, response=None, error=None):
    operation = operations_pb2.Operation(name="codec/operations/1", done=True, error=error)
    operation.metadata.Pack(types_pb2.OperationMetadata(verb=rpc, phase="writing", done=3, total=4))
    if response is not None:
        operation.response.Pack(response)
    server.answers[rpc] = lambda _request, _context: operation


def commands(group=None, path=()):
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_the_commands_are_those_that_were_promised():
    names = {name.split()[0] for name, _ in commands()}
    promised = (
        "push pull encode compact verify train score annotate explain classify export ops status sample-parts demo"
    )
    added = (
        "evaluate trials triage enroll forget calibrate calibrate-boxes promote rollback delete context "
        "augment compose detect segment review"
    )
    assert names == set(f"{promised} {added}".split())


WITHOUT_ADDRESS = {"sample-parts", "context list", "context use", "context delete"}


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_takes_json_and_an_address_and_tells_its_exit_codes(name, command):
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert ("--address" in options) == (name not in WITHOUT_ADDRESS)
    assert command.help
    assert command.epilog == EPILOG


def test_the_help_names_every_exit_code():
    assert [code.value for code in ExitCode] == [int(part.split()[0]) for part in codes()]


def codes():
    return EPILOG.removeprefix("Exit codes: ").split(", ")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["train/good/1.png", "test/good/2.PNG", "test/bent/deep/3.png", "notes/bent/3.png", "readme.txt"],
            {
                "train/good/1.png": ("train", ["good"]),
                "test/good/2.PNG": ("test", ["good"]),
                "test/bent/deep/3.png": ("test", ["bent"]),
            },
        ),
        (["nut/1.png", "bolt/2.jpg"], {"nut/1.png": ("", ["nut"]), "bolt/2.jpg": ("", ["bolt"])}),
        (["1.png", ".hidden/2.png"], {"1.png": ("", [])}),
        (["train/1.png"], {"train/1.png": ("train", [])}),
    ],
)
def test_push_reads_the_layouts(server, mekiki, tmp_path, files, expected):
    for file in files:
        write(tmp_path / file)
    result = mekiki("push", tmp_path, "parts", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    sent = [request.item for request in server.calls("AppendItems")[0].requests]
    assert {item.item_id: (item.split, list(item.labels)) for item in sent} == expected
    assert all(item.image.encoded.startswith(b"\x89PNG") for item in sent)
    assert ("notes" in result.stderr) == any(file.startswith("notes") for file in files)
    assert len(lines(result)) == 1


@pytest.mark.parametrize("place", ["ground_truth/bent/3_mask.png", "masks/bent/3.png"])
def test_push_takes_masks_along(server, mekiki, tmp_path, place):
    for file in ("train/good/1.png", "test/bent/3.png", "test/bent/4.png", place):
        write(tmp_path / file)
    assert mekiki("push", tmp_path, "parts").exit_code == ExitCode.DONE
    sent = [request.item for request in server.calls("AppendItems")[0].requests]
    assert [item.item_id for item in sent if item.HasField("mask")] == ["test/bent/3.png"]


def test_push_goes_on_after_a_bad_file_and_says_so(server, mekiki, tmp_path):
    for name in ("1.png", "2.png", "3.png"):
        write(tmp_path / name)
    server.answers["AppendItems"] = lambda request, _context: BAD if request.id == "2.png" else None
    result = mekiki("push", tmp_path, "parts")
    assert result.exit_code == ExitCode.REFUSED
    assert len(server.calls("AppendItems")[0].requests) == 3
    assert "2.png: image.encoded" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_hostile_file_name_is_spelled_out(server, mekiki, tmp_path):
    write(tmp_path / "[red]label[/]" / HOSTILE)
    server.answers["AppendItems"] = lambda _request, _context: BAD
    result = mekiki("push", tmp_path, "parts")
    item = server.calls("AppendItems")[0].requests[0].item
    assert item.item_id == "[red]label[/]/[bold red]x[/] \\x1b[31m \\u202e \\n.png"
    assert item.item_id in result.stderr
    assert not set("\x1b\u202e") & set(result.output)


def test_pull_never_leaves_its_folder(server, mekiki, tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    names = [
        "train/good/1.png",
        "../../../evil.png",
        "/etc/passwd",
        "a\x00b",
        "..",
        HOSTILE,
        "x" * 250,
        "train/good/1.jpg",
    ]

    def read(_request, _context):
        for name in names:
            yield codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=name), image=to_image(pixels))

    server.answers["ReadItems"] = read
    out = tmp_path / "deep" / "out"
    result = mekiki("pull", "parts", out, "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == len(names)
    assert all(out in path.parents for path in written)
    assert (out / "train" / "good" / "1.png").exists()
    for path in written:
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), pixels)
    assert [line["item_id"] for line in lines(result)] == names


def test_pull_keeps_deep_and_colourful_pixels(server, mekiki, tmp_path):
    images = {
        "grey16": np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000,
        "rgba": np.arange(192, dtype=np.uint8).reshape(6, 8, 4),
        "one": np.arange(48, dtype=np.uint8).reshape(6, 8, 1),
        "rgb16": np.arange(144, dtype=np.uint16).reshape(6, 8, 3),
    }

    def read(_request, _context):
        for name, pixels in images.items():
            yield codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=name), image=to_image(pixels))

    server.answers["ReadItems"] = read
    for line in lines(mekiki("pull", "parts", tmp_path, "--json")):
        path = line["path"]
        got = np.load(path) if path.endswith(".npy") else np.asarray(Image.open(path))
        assert np.array_equal(got, images[line["item_id"]].reshape(got.shape))


def test_pull_reports_a_damaged_item_and_goes_on(server, mekiki, tmp_path):
    def read(_request, _context):
        damaged = status_pb2.Status(code=code_pb2.DATA_LOSS, message="SHA-256 differs")
        yield codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id="1"), error=damaged)
        yield codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id="2"), image=to_image(np.ones((4, 4), np.uint8)))

    server.answers["ReadItems"] = read
    result = mekiki("pull", "parts", tmp_path)
    assert result.exit_code == ExitCode.REFUSED
    assert "1: SHA-256 differs" in result.stderr
    assert (tmp_path / "2.png").exists()


def judge(request, _context):
    """Bright files are anomalous; empty ones no images."""
    if not request.request.image.encoded:
        return BAD
    bright = np.asarray(Image.open(io.BytesIO(request.request.image.encoded))).max() > 200
    wanted = not request.request.HasField("heatmap_side") or request.request.heatmap_side
    heat = types_pb2.Heatmap(width=2, height=2, values=np.array([0, 1, 2, 3], "<f4").tobytes()) if wanted else None
    return anomaly_pb2.ScoreImageResponse(
        score=0.9 if bright else 0.1,
        verdict=anomaly_pb2.VERDICT_ANOMALOUS if bright else anomaly_pb2.VERDICT_NORMAL,
        threshold=0.5,
        heatmap=heat,
        model=types_pb2.ModelRef(name="parts", version=1, bank_version=3),
    )


def test_score_exits_with_one_for_an_anomaly_only_where_asked(server, mekiki, tmp_path):
    server.answers["ScoreImages"] = judge
    good, bad = write(tmp_path / "good.png", 10), write(tmp_path / "bad.png", 250)
    assert mekiki("score", "parts", good, "--fail-on-anomaly").exit_code == ExitCode.DONE
    assert mekiki("score", "parts", good, bad).exit_code == ExitCode.DONE
    assert mekiki("score", "parts", tmp_path, "--fail-on-anomaly").exit_code == ExitCode.FOUND


def test_score_prints_a_line_of_json_for_each_image_in_order(server, mekiki, tmp_path):
    server.answers["ScoreImages"] = judge
    paths = [write(tmp_path / f"{i}.png", 250 if i % 2 else 10) for i in range(6)]
    told = lines(mekiki("score", "parts", *paths, "--json"))
    assert [line["image"] for line in told] == list(map(str, paths))
    assert [line["verdict"] for line in told] == ["normal", "anomalous"] * 3
    assert told[0]["model"] == {"name": "parts", "version": 1, "bank_version": 3}


def test_score_tells_the_category_where_there_are_several(server, mekiki, tmp_path):
    path = write(tmp_path / "a.png", 10)
    server.answers["ScoreImages"] = judge
    assert "category" not in mekiki("score", "parts", path).stdout
    server.answers["ScoreImages"] = lambda request, _c: anomaly_pb2.ScoreImageResponse(
        category=request.request.category or "bolt"
    )
    assert mekiki("score", "parts", path).stdout.splitlines()[1].split()[-1] == "bolt"
    assert lines(mekiki("score", "parts", path, "--category", "nut", "--json"))[0]["category"] == "nut"


def test_score_goes_on_after_a_bad_image(server, mekiki, tmp_path):
    server.answers["ScoreImages"] = judge
    (tmp_path / "a.png").write_bytes(b"")
    write(tmp_path / "b.png", 250)
    # An empty file cannot even be sent as an image; the service says so, of this frame alone.
    result = mekiki("score", "parts", tmp_path, "--json", "--fail-on-anomaly")
    assert result.exit_code == ExitCode.REFUSED
    assert [line.get("error") for line in lines(result)] == ["InvalidArgument", None]


def test_score_paints_heat_maps(server, mekiki, tmp_path):
    server.answers["ScoreImages"] = judge
    write(tmp_path / "in" / "a.png", 100)
    result = mekiki("score", "parts", tmp_path / "in", "--out", tmp_path / "out")
    assert result.exit_code == ExitCode.DONE, result.output
    painted = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert painted.shape == (6, 8, 3)
    assert tuple(painted[0, 0]) == (100, 100, 100)
    assert painted[5, 7, 0] > painted[5, 7, 1]


def test_a_table_for_people_holds_no_foreign_markup(server, mekiki, tmp_path):
    server.answers["ScoreImages"] = judge
    write(tmp_path / HOSTILE, 250)
    result = mekiki("score", "parts", tmp_path)
    assert "anomalous" in result.stdout
    assert not set("\x1b\u202e") & set(result.output)


def test_classify_and_explain(server, mekiki, tmp_path):
    labels = [types_pb2.LabelScore(label="nut", score=0.75), types_pb2.LabelScore(label="bolt", score=0.25)]
    heat = types_pb2.Heatmap(width=1, height=1, values=np.array([1], "<f4").tobytes())
    server.answers["ClassifyImages"] = lambda _r, _c: saliency_pb2.ClassifyImageResponse(labels=labels)
    server.answers["ExplainImages"] = lambda _r, _c: saliency_pb2.ExplainImageResponse(heatmap=heat, label="nut")
    image = write(tmp_path / "a.png")
    assert lines(mekiki("classify", "kinds", image, "--json"))[0]["labels"][0] == {"label": "nut", "score": 0.75}
    assert "nut" in mekiki("classify", "kinds", image).stdout
    result = mekiki("explain", "kinds", image, "--out", tmp_path / "out", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    assert lines(result)[0]["heatmap"] == {"shape": [1, 1]}
    assert (tmp_path / "out" / "a.png").exists()


def test_encode_shows_what_was_made(server, mekiki):
    encoding = codec_pb2.Encoding(encoding_id="prepared-1", item_count=9, stored_bytes=1234)
    encoding.categories.add(item_count=9, width=64, height=32, reference_item_id="a.png")
    encoding.unaligned_items.add(item_id="7", reason="no \x1b[31m part")
    response = codec_pb2.EncodeDatasetResponse(encoding=encoding, background_description="by contrast")
    ends_with(server, "EncodeDataset", response)
    result = mekiki("encode", "parts", "--crf", 30, "--no-blank", "--alignment", "akaze")
    assert result.exit_code == ExitCode.DONE, result.output
    assert "prepared-1: 9 items, 1,234 bytes, 1 unaligned" in result.stdout
    assert "64 x 32" in result.stdout
    assert "\x1b" not in result.stdout
    options = server.calls("EncodeDataset")[0].requests[0].options
    assert (options.crf, options.blank_background, options.alignment) == (30, False, codec_pb2.ALIGNMENT_METHOD_AKAZE)
    assert lines(mekiki("encode", "parts", "--json"))[0]["encoding"]["unaligned"] == {"7": "no \x1b[31m part"}


def test_compact_says_what_it_saved(server, mekiki):
    response = codec_pb2.CompactDatasetResponse(dataset_version=7, moved_count=9, bytes_before=5000, bytes_after=4000)
    ends_with(server, "CompactDataset", response)
    result = mekiki("compact", "parts")
    assert result.exit_code == ExitCode.DONE, result.output
    assert "parts version 7: 9 images, 5,000 bytes before, 4,000 now" in result.stdout
    response.unreadable_item_ids.append("a.png")
    ends_with(server, "CompactDataset", response)
    result = mekiki("compact", "parts", "--json")
    assert result.exit_code == ExitCode.REFUSED
    assert lines(result)[0]["unreadable"] == ["a.png"]


def test_verify_names_what_is_damaged_and_fails_then(server, mekiki):
    whole = codec_pb2.VerifyDatasetResponse(dataset_version=3, item_count=9)
    ends_with(server, "VerifyDataset", whole)
    result = mekiki("verify", "parts")
    assert result.exit_code == ExitCode.DONE, result.output
    assert "parts version 3: 9 items read, 0 damages, 0 files mended" in result.stdout
    whole.damages.add(item_id="a.png", reason="frame 3 is \x1b[31m gone")
    ends_with(server, "VerifyDataset", whole)
    result = mekiki("verify", "parts")
    assert result.exit_code == ExitCode.REFUSED
    assert "a.png" in result.stdout
    assert "\x1b" not in result.stdout
    assert lines(mekiki("verify", "parts", "--json"))[0]["damages"][0]["item_id"] == "a.png"


def test_the_original_method_and_categories_are_one_word_each(server, mekiki):
    ends_with(server, "EncodeDataset", codec_pb2.EncodeDatasetResponse())
    assert mekiki("encode", "parts", "--original", "--crf", 24).exit_code == ExitCode.DONE
    assert mekiki("encode", "parts", "--categories", "looks", "--transform", "affine").exit_code == ExitCode.DONE
    original, mixed = (call.requests[0].options for call in server.calls("EncodeDataset"))
    assert (original.alignment, original.transform, original.crf) == (
        codec_pb2.ALIGNMENT_METHOD_AKAZE,
        codec_pb2.TRANSFORM_AFFINE,
        24,
    )
    assert original.background == codec_pb2.BACKGROUND_REMOVAL_REMBG
    assert original.reference == codec_pb2.REFERENCE_CHOICE_FIRST
    assert (mixed.categories, mixed.transform) == (
        codec_pb2.CATEGORY_GROUPING_LOOKS,
        codec_pb2.TRANSFORM_AFFINE,
    )


def test_training_a_detector_enrols_and_calibrates_it(server, mekiki):
    detector = anomaly_pb2.Detector(name="parts", version=1, encoding_id="prepared-1", enrolled_count=20)
    ends_with(server, "TrainDetector", anomaly_pb2.TrainDetectorResponse(detector=detector))
    ends_with(server, "CalibrateDetector", anomaly_pb2.CalibrateDetectorResponse())
    server.answers["GetDetector"] = lambda _r, _c: anomaly_pb2.GetDetectorResponse(detector=detector)
    items = [codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=str(i))) for i in range(20)]
    server.answers["ReadItems"] = lambda _r, _c: iter(items)
    result = mekiki("train", "detector", "parts", "screws", "--prepared", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    assert lines(result)[0]["enrolled_count"] == 20
    enrolled = [item for call in server.calls("EnrollItems") for item in call.requests[0].items]
    assert [item.item_id for item in enrolled] == [str(i) for i in range(20)]
    assert {item.image.item.encoding_id for item in enrolled} == {"prepared-1"}
    assert list(server.calls("TrainDetector")[0].requests[0].items.splits) == ["train"]
    order = [asked.rpc for asked in server.asked if asked.rpc not in ("ReadItems", "EnrollItems")]
    assert order == ["TrainDetector", "CalibrateDetector", "GetDetector"]
    assert {call.requests[0].detector for call in server.calls("EnrollItems")} == {"parts@1"}
    assert "another version serves; `mekiki promote parts@1`" in mekiki("train", "detector", "parts", "screws").stdout


def test_training_a_detector_of_several_kinds_enrols_each_in_its_category(server, mekiki):
    items = [codec_pb2.Item(item_id=kind, labels=[kind]) for kind in ("bolt", "nut")]
    server.answers["ReadItems"] = lambda _r, _c: iter([codec_pb2.ReadItemsResponse(item=item) for item in items])
    ends_with(server, "TrainDetector", anomaly_pb2.TrainDetectorResponse(detector=anomaly_pb2.Detector(name="parts")))
    ends_with(server, "CalibrateDetector", anomaly_pb2.CalibrateDetectorResponse())
    result = mekiki("train", "detector", "parts", "kinds", "--category-from-label")
    assert result.exit_code == ExitCode.DONE, result.output
    enrolled = [(item.item_id, item.category) for item in server.calls("EnrollItems")[0].requests[0].items]
    assert enrolled == [("bolt", "bolt"), ("nut", "nut")]


def test_enrolling_takes_the_items_that_are_meant(server, mekiki):
    items = [codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=str(i))) for i in range(20)]
    server.answers["ReadItems"] = lambda _r, _c: iter(items)
    server.answers["EnrollItems"] = lambda request, _c: anomaly_pb2.EnrollItemsResponse(
        bank_version=7, enrolled_count=len(request.items) - 1, duplicate_count=1
    )
    result = mekiki("enroll", "parts", "more", "--label", "good", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    assert lines(result) == [{"bank_version": 7, "enrolled_count": 18, "duplicate_count": 2}]
    asked = server.calls("ReadItems")[0].requests[0]
    assert (asked.items.dataset, list(asked.items.labels), list(asked.items.splits)) == ("more", ["good"], [])
    sent = [item for call in server.calls("EnrollItems") for item in call.requests[0].items]
    assert [(item.item_id, item.image.item.dataset) for item in sent] == [(str(i), "more") for i in range(20)]
    assert {item.image.item.form for item in sent} == {types_pb2.ITEM_FORM_ORIGINAL}
    assert "18 enrolled, 2 had been there; bank version 7" in mekiki("enroll", "parts", "more").stdout
    assert list(server.calls("ReadItems")[1].requests[0].items.splits) == ["train"]


def test_enrolling_sorts_items_into_categories(server, mekiki):
    kinds = {"1": ["nut", "new"], "2": ["bolt"], "3": []}
    items = [codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=i, labels=kinds[i])) for i in kinds]
    server.answers["ReadItems"] = lambda _r, _c: iter(items)

    def enrolled(*options):
        result = mekiki("enroll", "parts", "more", *options)
        assert result.exit_code == ExitCode.DONE, result.output
        return [item.category for item in server.calls("EnrollItems")[-1].requests[0].items]

    assert enrolled() == ["", "", ""]
    assert enrolled("--category", "nut") == ["nut"] * 3
    assert enrolled("--category-from-label") == ["nut", "bolt", ""]
    both = mekiki("enroll", "parts", "more", "--category", "nut", "--category-from-label")
    assert both.exit_code == ExitCode.USAGE
    assert len(server.calls("EnrollItems")) == 3


def test_enrolling_nothing_is_wrong_usage(server, mekiki):
    result = mekiki("enroll", "parts", "screws", "--split", "trian")
    assert result.exit_code == ExitCode.USAGE
    assert server.calls("EnrollItems") == []


def test_forgetting(server, mekiki):
    server.answers["ForgetItems"] = lambda _r, _c: anomaly_pb2.ForgetItemsResponse(bank_version=8, forgotten_count=1)
    result = mekiki("forget", "parts", "train/1.png", "train/2.png")
    assert "parts: 1 of 2 forgotten; bank version 8" in result.stdout
    assert list(server.calls("ForgetItems")[0].requests[0].item_ids) == ["train/1.png", "train/2.png"]
    assert lines(mekiki("forget", "parts", "1", "--json")) == [{"bank_version": 8, "forgotten_count": 1}]
    assert mekiki("forget", "parts").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(("command", "rpc"), [("promote", "PromoteDetector"), ("rollback", "RollbackDetector")])
def test_which_version_serves(server, mekiki, command, rpc):
    kind = getattr(anomaly_pb2, f"{rpc}Response")
    server.answers[rpc] = lambda _r, _c: kind(detector=anomaly_pb2.Detector(name="parts", version=2, serving=True))
    assert "parts: version 2 serves" in mekiki(command, "parts@2").stdout
    assert server.calls(rpc)[0].requests[0].detector == "parts@2"
    (told,) = lines(mekiki(command, "parts@2", "--json"))
    assert (told["version"], told["serving"]) == (2, True)


def test_calibrating_alone(server, mekiki):
    threshold = anomaly_pb2.Threshold(value=0.5, false_alarm_rate=0.05, confidence=0.9, normal_count=60)
    ends_with(server, "CalibrateDetector", calibrated(threshold))
    arguments = ["calibrate", "parts", "screws", "--false-alarm-rate", 0.05, "--confidence", 0.9, "--split", "held"]
    said = mekiki(*arguments).stdout
    assert "threshold 0.5: at most 5.00% false alarms, with 90% confidence, from 60 normals" in said
    asked = server.calls("CalibrateDetector")[0].requests[0]
    assert (asked.false_alarm_rate, asked.confidence, list(asked.items.splits)) == (0.05, 0.9, ["held"])
    assert lines(mekiki(*arguments, "--json"))[0]["thresholds"][""]["value"] == 0.5


def calibrated(*thresholds):
    return anomaly_pb2.CalibrateDetectorResponse(
        categories=[anomaly_pb2.CategoryCalibration(threshold=each, scores=[0.1]) for each in thresholds]
    )


def test_calibrating_several_categories_tells_each(server, mekiki):
    thresholds = [anomaly_pb2.Threshold(value=n, category=kind) for n, kind in ((2, "nut"), (1, "bolt"))]
    ends_with(server, "CalibrateDetector", calibrated(*thresholds))
    said = mekiki("calibrate", "parts", "screws").stdout.splitlines()
    assert [line.split(":")[0] for line in said[-2:]] == ["bolt", "nut"]


def evaluated(calibrated):
    response = anomaly_pb2.EvaluateDetectorResponse(image_auroc=0.9876, average_precision=0.95)
    response.labels.add(label="good", item_count=20)
    response.labels.add(label="bent", item_count=10, image_auroc=0.98)
    if calibrated:
        response.false_alarms.CopyFrom(anomaly_pb2.Rate(count=1, total=20, lower=0.001, upper=0.249))
        response.misses.CopyFrom(anomaly_pb2.Rate(count=3, total=10, lower=0.067, upper=0.652))
        response.labels[0].anomalous.CopyFrom(anomaly_pb2.Rate(count=1, total=20))
        response.labels[1].anomalous.CopyFrom(anomaly_pb2.Rate(count=7, total=10))
        response.f1 = 0.7778
    return response


def test_evaluating_tells_of_pixels_and_warns_of_shortcuts(server, mekiki):
    response = evaluated(calibrated=False)
    response.pixels.CopyFrom(anomaly_pb2.PixelEvaluation(auroc=0.97, pro=0.91, item_count=28))
    response.labels[1].pixels.CopyFrom(anomaly_pb2.PixelEvaluation(auroc=0.96, pro=0.9, item_count=28))
    response.shortcuts.add(name="brightness", image_auroc=0.6, lower=0.4, upper=0.8)
    response.shortcuts.add(name="background", image_auroc=0.85, lower=0.7, upper=0.95, flatters=True)
    ends_with(server, "EvaluateDetector", response)
    result = mekiki("evaluate", "parts", "screws")
    assert "pixels of 28 items: AUROC 0.9700, per-region overlap 0.9100" in result.stdout
    assert ["bent", "10", "0.9800", "0.9600", "0.9000"] in [line.split() for line in result.stdout.splitlines()]
    assert "the background alone tells good from bad, AUROC 0.85" in result.stderr
    assert "brightness" not in result.stderr
    (told,) = lines(mekiki("evaluate", "parts", "screws", "--json"))
    assert (told["pixels"]["pro"], told["shortcuts"][1]["flatters"]) == (0.91, True)


def test_evaluating_tells_false_alarms_and_misses_by_label(server, mekiki):
    ends_with(server, "EvaluateDetector", evaluated(calibrated=True))
    detector = anomaly_pb2.Detector(name="parts", thresholds=[anomaly_pb2.Threshold(value=0.5, normal_count=60)])
    server.answers["GetDetector"] = lambda _r, _c: anomaly_pb2.GetDetectorResponse(detector=detector)
    result = mekiki("evaluate", "parts", "screws")
    assert result.exit_code == ExitCode.DONE, result.output
    assert "AUROC 0.9876" in result.stdout
    assert "threshold 0.5" in result.stdout
    assert "false alarms 1 of 20 (5.0%; 95 % interval 0.1% to 24.9%), misses 3 of 10 (30.0%" in result.stdout
    assert "F1 0.7778" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["good", "20", "1"] in rows
    assert ["bent", "10", "0.9800", "3"] in rows
    asked = server.calls("EvaluateDetector")[0].requests[0]
    assert (list(asked.items.splits), list(asked.normal_labels)) == (["test"], ["good"])
    (told,) = lines(mekiki("evaluate", "parts", "screws", "--normal-label", "ok", "--json"))
    assert (told["image_auroc"], told["misses"]["count"], told["thresholds"][""]["value"]) == (0.9876, 3, 0.5)
    assert list(server.calls("EvaluateDetector")[1].requests[0].normal_labels) == ["ok"]


def test_evaluating_without_a_threshold_says_so(server, mekiki):
    ends_with(server, "EvaluateDetector", evaluated(calibrated=False))
    said = mekiki("evaluate", "parts", "screws").stdout
    assert "not calibrated" in said
    assert ["good", "20"] in [line.split() for line in said.splitlines()]
    assert lines(mekiki("evaluate", "parts", "screws", "--json"))[0]["thresholds"] == {}


@pytest.mark.parametrize(
    ("kind", "rpc"), [("dataset", "DeleteDataset"), ("detector", "DeleteDetector"), ("classifier", "DeleteClassifier")]
)
def test_deleting_asks_first(server, mekiki, kind, rpc):
    for answer in ("n\n", "", "\n"):  # no; nobody there; only Enter
        result = mekiki("delete", kind, "parts", typed=answer)
        assert result.exit_code == ExitCode.USAGE
        assert f"Delete {kind} parts for good?" in result.stderr
        assert "nothing was deleted" in result.stderr
    assert server.asked == []
    assert mekiki("delete", kind, "parts", typed="y\n").exit_code == ExitCode.DONE
    assert lines(mekiki("delete", kind, "parts", "--yes", "--json")) == [{"deleted": kind, "name": "parts"}]
    assert [getattr(call.requests[0], kind) for call in server.calls(rpc)] == ["parts"] * 2


def test_deleting_what_is_not_there_is_a_refusal(server, mekiki):
    import grpc

    server.answers["DeleteDataset"] = lambda _r, context: context.abort(grpc.StatusCode.NOT_FOUND, "no such data set")
    assert mekiki("delete", "dataset", "parts", "--yes").exit_code == ExitCode.REFUSED


def test_training_a_classifier(server, mekiki):
    classifier = saliency_pb2.Classifier(name="kinds", version=2, labels=["nut", "bolt"], validation_accuracy=0.9)
    ends_with(server, "TrainClassifier", saliency_pb2.TrainClassifierResponse(classifier=classifier))
    result = mekiki("train", "classifier", "kinds", "parts", "--epochs", 3)
    assert "kinds version 2: nut, bolt; 90.0% of" in result.stdout
    assert server.calls("TrainClassifier")[0].requests[0].epochs == 3


def test_a_training_that_fails_is_a_refusal(server, mekiki):
    error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="two labels at least")
    ends_with(server, "TrainClassifier", error=error)
    result = mekiki("train", "classifier", "kinds", "parts", "--json")
    assert result.exit_code == ExitCode.REFUSED
    assert lines(result)[0]["error"] == "FailedPrecondition"
    assert "two labels at least" in result.stderr


def test_annotate(server, mekiki):
    response = boxfit_pb2.AnnotateDatasetResponse(annotated_count=8, needs_review_count=2)
    ends_with(server, "AnnotateDataset", response)
    result = mekiki("annotate", "kinds", "parts", "--use-labels", "--skip", "empty", "--method", "tight")
    assert "8 annotated, 2 of them to be reviewed" in result.stdout
    request = server.calls("AnnotateDataset")[0].requests[0]
    assert (request.use_item_labels, list(request.skip_labels)) == (True, ["empty"])
    assert (request.classifier, request.segmenter, request.HasField("explain")) == ("kinds", "", True)
    mekiki("annotate", "outlines", "parts", "--segmenter")
    request = server.calls("AnnotateDataset")[1].requests[0]
    assert (request.classifier, request.segmenter, request.HasField("explain")) == ("", "outlines", False)
    response.failures.add(item_id="1", reason="damaged")
    ends_with(server, "AnnotateDataset", response)
    assert mekiki("annotate", "kinds", "parts").exit_code == ExitCode.REFUSED


def test_boxes_are_calibrated_into_a_file_that_annotating_takes(server, mekiki, tmp_path):
    lesson = boxfit_pb2.LabelCalibration(label="nut", threshold=0.2, grow_left=0.1, box_count=5, mean_iou=0.8)
    model = types_pb2.ModelRef(name="kinds", version=3)
    made = boxfit_pb2.BoxCalibration(model=model, labels=[lesson], confidence_slope=1.5, method="FIT_METHOD_SOFT")
    ends_with(server, "CalibrateBoxes", boxfit_pb2.CalibrateBoxesResponse(calibration=made, item_count=5))
    result = mekiki("calibrate-boxes", "kinds", "parts", "--out", tmp_path / "nuts.json", "--scale", 1, "--scale", 2)
    assert "nut" in result.stdout
    assert "0.800" in result.stdout
    assert list(server.calls("CalibrateBoxes")[0].requests[0].explain.scales) == [1, 2]
    ends_with(server, "AnnotateDataset", boxfit_pb2.AnnotateDatasetResponse())
    mekiki("annotate", "kinds", "parts", "--calibration", tmp_path / "nuts.json", "--max-objects", 3)
    request = server.calls("AnnotateDataset")[0].requests[0]
    assert request.calibration.labels[0].grow_left == 0.1
    assert request.calibration.model == model
    assert request.calibration.confidence_slope == 1.5
    assert request.calibration.method == boxfit_pb2.FIT_METHOD_SOFT
    assert not request.HasField("explain")
    assert request.options.max_objects == 3


def test_a_file_that_is_no_calibration_is_refused_by_name(mekiki, tmp_path):
    for text in ("{", "{}", "[]", '{"labels": 3}', '{"unknown": 1}'):
        (tmp_path / "broken.json").write_text(text)
        result = mekiki("annotate", "kinds", "parts", "--calibration", tmp_path / "broken.json")
        assert result.exit_code != 0
        assert "broken.json" in result.stderr.replace("\n", "")


def test_export_writes_voc(server, mekiki, tmp_path):
    item = codec_pb2.Item(item_id="train/nut/1.png")
    for state, label in ((1, "proposed"), (2, "accepted"), (3, "rejected")):
        item.annotations.add(label=label, state=state, box=types_pb2.Box(x_min=1, y_min=2, x_max=5, y_max=6))
    image = to_image(np.ones((6, 8, 4), np.uint8))
    server.answers["ReadItems"] = lambda _r, _c: iter([codec_pb2.ReadItemsResponse(item=item, image=image)])
    result = mekiki("export", "parts", tmp_path / "all", "--proposed", "--json")
    assert lines(result) == [{"images": 1, "left_out": 0, "format": "voc", "path": str(tmp_path / "all")}]
    (xml,) = (tmp_path / "all" / "Annotations").iterdir()
    assert "proposed" in xml.read_text()
    assert "accepted" in xml.read_text()
    assert "rejected" not in xml.read_text()


def test_export_leaves_out_what_is_not_decided_on_and_what_was_all_rejected(server, mekiki, tmp_path):
    def item(name, *states):
        made = codec_pb2.Item(item_id=name)
        for state in states:
            made.annotations.add(label="nut", state=state, box=types_pb2.Box(x_min=1, y_min=2, x_max=5, y_max=6))
        return made

    items = [item("proposed", 1, 2), item("accepted", 2, 3), item("rejected", 3), item("bare")]
    image = to_image(np.ones((6, 8), np.uint8))
    server.answers["ReadItems"] = lambda _r, _c: (codec_pb2.ReadItemsResponse(item=i, image=image) for i in items)
    result = mekiki("export", "parts", tmp_path / "csv", "--format", "csv", "--json")
    assert lines(result)[0]["left_out"] == 2
    assert "2 images are left out" in result.stderr
    rows = [row.split(",") for row in (tmp_path / "csv/annotations.csv").read_text().splitlines()[1:]]
    assert [(row[0], row[4]) for row in rows] == [("accepted.jpg", "nut"), ("bare.jpg", "")]
    assert mekiki("export", "parts", tmp_path / "x", "--format", "tfrecord").exit_code == ExitCode.USAGE


def test_export_takes_masks_where_the_format_has_them(server, mekiki, tmp_path):
    from mekiki._values.image import to_mask

    item = codec_pb2.Item(item_id="a", labels=["nut"])
    item.annotations.add(label="nut", state=2, box=types_pb2.Box(x_min=1, y_min=2, x_max=5, y_max=6))
    mask = np.zeros((6, 8), bool)
    mask[3, 2:4] = True
    told = codec_pb2.ReadItemsResponse(item=item, image=to_image(np.ones((6, 8), np.uint8)), mask=to_mask(mask))
    server.answers["ReadItems"] = lambda _r, _c: iter([told])
    assert mekiki("export", "parts", tmp_path, "--format", "coco", "--masks").exit_code == ExitCode.DONE
    assert server.calls("ReadItems")[0].requests[0].with_masks
    written = json.loads((tmp_path / "annotations/instances_default.json").read_text())
    assert written["annotations"][0]["area"] == 2


def test_export_needs_nothing_of_the_demonstration(server, tmp_path):
    import subprocess
    import sys

    item = codec_pb2.Item(item_id="1")
    image = to_image(np.ones((6, 8, 3), np.uint8))
    server.answers["ReadItems"] = lambda _r, _c: iter([codec_pb2.ReadItemsResponse(item=item, image=image)])
    absent = 'import sys; sys.modules |= dict.fromkeys(["cv2", "jinja2", "markupsafe"])'
    command = [sys.executable, "-c", f"{absent}; from mekiki.cli import main; main()", "export", "parts", tmp_path]
    subprocess.run([*command, "--address", server.address], check=True, capture_output=True)
    with Image.open(tmp_path / "JPEGImages" / "1.jpg") as written:
        assert written.size == (8, 6)


def test_ops_lists_shows_waits_and_cancels(server, mekiki):
    operation = operations_pb2.Operation(name="codec/operations/1", done=True)
    operation.metadata.Pack(types_pb2.OperationMetadata(verb="EncodeDataset", phase="writing", done=3, total=4))
    operation.response.Pack(codec_pb2.EncodeDatasetResponse())
    server.answers["ListOperations"] = lambda _r, _c: operations_pb2.ListOperationsResponse(operations=[operation])
    server.answers["GetOperation"] = lambda _r, _c: operation
    assert len(lines(mekiki("ops", "list", "codec", "--json"))) == 1
    assert "writing 3/4" in mekiki("ops", "show", operation.name).stdout
    assert lines(mekiki("ops", "wait", operation.name, "--json"))[0]["encoding"]["item_count"] == 0
    assert mekiki("ops", "cancel", operation.name).exit_code == ExitCode.DONE
    assert len(server.calls("CancelOperation")) == 1
    assert mekiki("ops", "show", "nowhere/operations/1").exit_code == ExitCode.USAGE


def test_status_shows_health_versions_and_models(server, mekiki):
    server.answers["Check"] = lambda _r, _c: health_pb2.HealthCheckResponse(status="SERVING")
    dataset = codec_pb2.Dataset(name="screws", item_count=7)
    server.answers["ListDatasets"] = lambda _r, _c: codec_pb2.ListDatasetsResponse(datasets=[dataset])
    result = mekiki("status", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    told = lines(result)
    assert [line["service"] for line in told] == ["codec", "saliency", "boxfit", "anomaly"]
    assert told[0]["holds"] == ["screws (7 items)"]
    assert {line["version"] for line in told} == {"9.9.9"}
    server.answers["Check"] = lambda _r, _c: health_pb2.HealthCheckResponse(status="NOT_SERVING")
    assert mekiki("status").exit_code == ExitCode.UNREACHABLE


def test_status_tells_which_banks_are_searched_by_lists(server, mekiki):
    server.answers["Check"] = lambda _r, _c: health_pb2.HealthCheckResponse(status="SERVING")
    detectors = [
        anomaly_pb2.Detector(name="parts", version=1, serving=True, bank_index="BANK_INDEX_EXACT", bank_recall=1),
        anomaly_pb2.Detector(
            name="screws", version=2, vector_count=1_000_000, bank_index="BANK_INDEX_LISTS", bank_recall=0.9932
        ),
    ]
    server.answers["ListDetectors"] = lambda _r, _c: anomaly_pb2.ListDetectorsResponse(detectors=detectors)
    told = lines(mekiki("status", "--json"))[3]["holds"]
    lists = "does not serve; bank of 1,000,000 vectors, searched by lists, recall 0.993"
    assert told == ["parts@1", f"screws@2 ({lists})"]


def test_status_counts_the_categories_of_a_detector(server, mekiki):
    server.answers["Check"] = lambda _r, _c: health_pb2.HealthCheckResponse(status="SERVING")
    kinds = [anomaly_pb2.DetectorCategory(name=name, enrolled_count=n) for n, name in ((3, "nut"), (12, "bolt"))]
    detectors = [
        anomaly_pb2.Detector(name="one", version=1, serving=True, categories=kinds[:1]),
        anomaly_pb2.Detector(name="two", version=1, serving=True, categories=kinds),
    ]
    server.answers["ListDetectors"] = lambda _r, _c: anomaly_pb2.ListDetectorsResponse(detectors=detectors)
    assert lines(mekiki("status", "--json"))[3]["holds"] == ["one@1", "two@1 (categories: bolt 12, nut 3)"]


def test_nobody_at_the_address_is_exit_code_four(mekiki, tmp_path):
    result = mekiki("status", "--json", address="127.0.0.1:1")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert {line["state"] for line in lines(result)} == {"unreachable"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["push", "/nowhere", "parts"],
        ["score", "parts", "/nowhere/1.png"],
        ["score", "parts"],
        ["train", "detector", "parts"],
        ["nonsense"],
        ["encode", "parts", "--alignment", "nonsense"],
        ["sample-parts", "/proc/nowhere", "--count", "0"],
    ],
)
def test_wrong_usage_is_exit_code_two_and_asks_nobody(server, mekiki, arguments):
    assert mekiki(*arguments).exit_code == ExitCode.USAGE
    assert server.asked == []


def test_an_unknown_name_is_a_refusal(server, mekiki):
    import grpc

    def refuse(_request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "dataset 'screws' does not exist")

    server.answers["EncodeDataset"] = refuse
    result = mekiki("encode", "screws", "--json")
    assert result.exit_code == ExitCode.REFUSED
    assert lines(result)[0]["error"] == "NotFound"


def test_labelled_sample_parts_are_one_folder_a_label(mekiki, tmp_path):
    result = mekiki("sample-parts", tmp_path, "--labelled", "--count", 8, "--size", 64, "--json")
    assert result.exit_code == 0
    labels = {path.parent.name for path in (tmp_path / "images").glob("*/*.png")}
    assert labels == {"screw", "nut", "washer", "empty"}


def test_sample_parts_are_rendered(mekiki, tmp_path):
    result = mekiki("sample-parts", tmp_path, "--count", 5, "--size", 64, "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    assert lines(result) == [{"path": str(tmp_path), "pictures": 5, "kinds": ["screw"]}]
    assert len(list((tmp_path / "train" / "good").glob("*.png"))) == 3


def test_the_demo_keeps_its_talk_out_of_the_json(mekiki, tmp_path, monkeypatch):
    def run_demo(data, out, running, count, console):
        console.print("talk")
        return {"auroc": 0.99, "report": "report.html"}

    monkeypatch.setattr("mekiki.demo.run_demo", run_demo)
    result = mekiki("demo", "--out", tmp_path, "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    assert lines(result) == [{"auroc": 0.99, "report": "report.html"}]
    assert "talk" in result.stderr


@pytest.mark.parametrize("option", ["--running", "--address"])
def test_the_demo_shows_services_that_run_what_all_commands_show(server, mekiki, tmp_path, monkeypatch, option):
    def run_demo(data, out, running, count, console):
        with running:
            running.operations.list_operations("codec")
        return {}

    monkeypatch.setattr("mekiki.demo.run_demo", run_demo)
    monkeypatch.setenv("MEKIKI_TOKEN", "mine")
    given, in_the_environment = ((option,), server.address) if option == "--running" else ((option, server.address), "")
    result = mekiki("demo", "--out", tmp_path, *given, address=in_the_environment)
    assert result.exit_code == ExitCode.DONE, result.output
    assert server.asked[-1].metadata["authorization"] == "Bearer mine"


def test_a_bug_has_an_exit_code_of_its_own(monkeypatch, capsys):
    def crash():
        raise RuntimeError("oh")

    monkeypatch.setattr("mekiki.cli.app.app", crash)
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == ExitCode.BUG
    assert "RuntimeError: oh" in capsys.readouterr().err


def loaded_by(statement, modules):
    import subprocess
    import sys

    look = f"import sys; {statement}; print(*sorted({modules} & set(sys.modules)))"
    return subprocess.check_output([sys.executable, "-c", look], text=True).split()


def test_the_sdk_needs_nothing_of_the_command_line():
    heavy = {"typer", "rich", "PIL.Image", "torch", "cv2", "matplotlib"}
    assert loaded_by("import mekiki; mekiki.Client, mekiki.AsyncClient", heavy) == []


def test_importing_the_sdk_loads_nothing_before_it_is_used():
    heavy = {"numpy", "grpc", "google.protobuf", "asyncio", "mekiki._public"}
    assert loaded_by("import mekiki", heavy) == []
    assert loaded_by("from mekiki.types.v1 import types_pb2", {"numpy", "grpc", "mekiki._public"}) == []
    assert loaded_by("import mekiki; mekiki.Box", heavy) == sorted(heavy)


def test_every_public_name_is_there_and_no_other():
    import mekiki
    from mekiki import _public, errors

    assert mekiki.__all__ == sorted(mekiki.__all__)
    assert all(getattr(mekiki, name) is getattr(_public, name) for name in mekiki.__all__)
    assert set(mekiki.__all__) <= set(dir(mekiki))
    assert mekiki.errors is errors
    for name in ("nonsense", "_nonsense", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"module 'mekiki' has no attribute '{name}'"):
            getattr(mekiki, name)
