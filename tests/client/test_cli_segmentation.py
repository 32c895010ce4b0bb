"""`mekiki train segmenter`, `mekiki segment` and `mekiki delete segmenter`."""

import json

import numpy as np
import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from mekiki import Segmentation
from mekiki.cli.app import app
from mekiki.cli.codes import ExitCode
from mekiki.cli.folder import read_folder
from mekiki.cli.segmentation import list_colours, paint_classes
from mekiki.formats.outlines import draw_outlines
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.images import encode_mask, encode_runs

HOSTILE = "[bold red]x[/] \x1b[31m \u202e"
BAD = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="image.encoded: no image")
HEIGHT, WIDTH = 30, 40
CRACK, DENT = np.zeros((2, HEIGHT, WIDTH), np.bool_)
CRACK[2:9, 1:7] = True
DENT[4:28, 20:30] = True
DENT[10:12, 22:24] = False


@pytest.fixture
def mekiki(server):
    labels = ["crack", HOSTILE, "dent"]
    server.answers["GetSegmenter"] = lambda _request, _context: saliency_pb2.GetSegmenterResponse(
        segmenter=saliency_pb2.Segmenter(name="defects", version=3, labels=labels)
    )

    def invoke(*arguments):
        return CliRunner().invoke(
            app, list(map(str, arguments)), env={"MEKIKI_ADDRESS": server.address, "COLUMNS": "300"}
        )

    return invoke


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def make_answer(*found, encode=encode_runs, pixel_mm=None):
    segments = []
    for label, mask in found:
        rows, columns = np.nonzero(mask)
        box = types_pb2.Box(x_min=columns.min(), y_min=rows.min(), x_max=columns.max() + 1, y_max=rows.max() + 1)
        segment = saliency_pb2.Segment(label=label, mask=encode(mask), box=box, area_px=len(rows), score=0.75)
        if pixel_mm:
            segment.area_mm2 = len(rows) * pixel_mm**2
        segments.append(segment)
    model = types_pb2.ModelRef(name="defects", version=3)
    return saliency_pb2.SegmentImageResponse(segments=segments, model=model, image_width=WIDTH, image_height=HEIGHT)


TWO = make_answer(("crack", CRACK), ("dent", DENT), pixel_mm=0.5)


def write(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 128, np.uint8)).save(folder / name)
    return folder


def answer_frames(server, *answers):
    left = iter(answers)
    server.answers["SegmentImages"] = lambda _request, _context: next(left)


def test_training_says_what_came_out_and_sends_what_was_asked(server, mekiki):
    made = saliency_pb2.Segmenter(
        name="defects",
        version=2,
        labels=["crack", "dent"],
        engine=saliency_pb2.SEGMENTATION_ENGINE_SEC,
        masked_count=4,
        train_count=40,
    )
    operation = operations_pb2.Operation(name="saliency/operations/1", done=True)
    operation.metadata.Pack(types_pb2.OperationMetadata(verb="TrainSegmenter"))
    operation.response.Pack(saliency_pb2.TrainSegmenterResponse(segmenter=made))
    server.answers["TrainSegmenter"] = lambda _request, _context: operation
    options = ("--normal", "good", "--normal", "fine", "--masks", "--epochs", 7, "--input-size", 96, "--engine", "sec")
    result = mekiki("train", "segmenter", "defects", "parts", *options, "--split", "train", "--seed", 3)
    assert result.exit_code == ExitCode.DONE, result.output
    assert "defects version 2: crack, dent; learnt by sec from 40 items, 4 of them with masks" in " ".join(
        result.output.split()
    )
    (request,) = server.calls("TrainSegmenter")[0].requests
    assert (request.segmenter, request.items.dataset, list(request.items.splits)) == ("defects", "parts", ["train"])
    assert list(request.normal_labels) == ["good", "fine"]
    assert (request.use_masks, request.epochs, request.input_size, request.seed) == (True, 7, 96, 3)
    assert request.engine == saliency_pb2.SEGMENTATION_ENGINE_SEC
    assert not request.HasField("learning_rate")
    assert not request.go_on
    assert mekiki("train", "segmenter", "defects", "parts", "--masks", "--go-on").exit_code == ExitCode.DONE
    request = server.calls("TrainSegmenter")[1].requests[0]
    assert (request.go_on, request.engine) == (True, saliency_pb2.SEGMENTATION_ENGINE_UNSPECIFIED)


def test_each_segment_is_told_with_its_area_and_a_refused_image_with_its_reason(server, mekiki, tmp_path):
    folder = write(tmp_path / "in", "a.png", "b.png", "c.png")
    answer_frames(server, TWO, BAD, make_answer())
    result = mekiki("segment", "defects", folder, "--refine", "--pixel-size-mm", 0.5)
    assert result.exit_code == ExitCode.REFUSED
    table = [line.split() for line in result.stdout.splitlines() if ".png" in line]
    assert [row[1:] for row in table[:2]] == [["crack", "42", "10.5", "0.75"], ["dent", "236", "59", "0.75"]]
    assert table[2][1:] == ["0"]
    sent = server.calls("SegmentImages")[0].requests[0].request
    assert (sent.refine, sent.pixel_size_mm) == (True, 0.5)


def test_scripts_get_a_line_of_json_an_image(server, mekiki, tmp_path):
    answer_frames(server, TWO, BAD)
    result = mekiki("segment", "defects", write(tmp_path / "in", "a.png", "b.png"), "--json")
    first, second = lines(result)
    assert [(one["label"], one["area_px"], one["mask"]) for one in first["segments"]] == [
        ("crack", 42, {"shape": [30, 40]}),
        ("dent", 236, {"shape": [30, 40]}),
    ]
    assert second["error"] == "InvalidArgument"
    assert not server.calls("SegmentImages")[0].requests[0].request.HasField("pixel_size_mm")


def test_a_hostile_label_is_spelled_out(server, mekiki, tmp_path):
    answer_frames(server, make_answer((HOSTILE, CRACK)))
    result = mekiki("segment", "defects", write(tmp_path / "in", "a.png"))
    assert result.exit_code == ExitCode.DONE, result.output
    assert not set("\x1b\u202e") & set(result.output)


def test_overlays_colour_what_is_found_and_leave_the_rest(server, mekiki, tmp_path):
    answer_frames(server, TWO)
    result = mekiki("segment", "defects", write(tmp_path / "in", "a.png"), "--out", tmp_path / "out")
    assert result.exit_code == ExitCode.DONE, result.output
    drawn = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    coloured = (drawn != 128).any(axis=2)
    assert np.array_equal(coloured, CRACK | DENT)


def test_an_indexed_png_numbers_labels_as_the_segmenter_does(server, mekiki, tmp_path):
    answer_frames(server, TWO, make_answer(("dent", DENT), encode=encode_mask))
    folder, out = write(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    assert mekiki("segment", "defects", folder, "--out", out, "--format", "png").exit_code == ExitCode.DONE
    first, second = (Image.open(out / name) for name in ("a.png", "b.png"))
    assert first.mode == "P"
    assert np.array_equal(np.asarray(first), CRACK * 1 + DENT * 3)
    assert np.array_equal(np.asarray(second), DENT * 3)
    assert np.array_equal(np.array(first.convert("RGB"))[5, 21], list_colours()[3])
    assert (out / "labels.txt").read_text().splitlines()[2] == "dent"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_gets_run_lengths(server, mekiki, tmp_path):
    answer_frames(server, TWO, make_answer())
    folder, out = write(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    assert mekiki("segment", "defects", folder, "--out", out, "--format", "coco").exit_code == ExitCode.DONE
    coco = COCO(out / "annotations" / "instances_default.json")
    told = {coco.cats[each["category_id"]]["name"]: coco.annToMask(each) for each in coco.anns.values()}
    assert np.array_equal(told["crack"], CRACK)
    assert np.array_equal(told["dent"], DENT)
    assert len(coco.imgs) == 2


def test_labelme_gets_polygons(server, mekiki, tmp_path):
    answer_frames(server, make_answer(("dent", DENT)))
    out = tmp_path / "out"
    result = mekiki("segment", "defects", write(tmp_path / "in", "a.png"), "--out", out, "--format", "labelme")
    assert result.exit_code == ExitCode.DONE, result.output
    (file,) = read_folder(out).files
    assert file.labels == ("dent",)
    assert np.array_equal(draw_outlines(file.outlines, WIDTH, HEIGHT), DENT)


def test_a_map_numbers_labels_by_a_given_order_or_its_own():
    found = Segmentation.from_proto(TWO)
    assert np.array_equal(found.label_map(), CRACK * 1 + DENT * 2)
    assert np.array_equal(found.label_map(["dent", "crack"]), CRACK * 2 + DENT * 1)
    assert found.label_map().dtype == np.uint8
    with pytest.raises(ValueError, match="'crack' is none of the labels: dent"):
        found.label_map(["dent"])
    with pytest.raises(ValueError, match="at most 255 labels, not 256"):
        found.label_map([f"{number}" for number in range(256)])


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (30, 40, 3), (30, 40, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_image_can_be_painted(shape, dtype):
    painted = paint_classes(np.zeros(shape, dtype), CRACK.astype(np.uint8))
    assert painted.shape == (30, 40, 3)
    assert np.array_equal(painted.any(axis=2), CRACK)
    assert painted[2, 1].tolist() == [255, 0, 0], "an outline is brighter"
    assert painted[5, 3].tolist() == [64, 0, 0]


def test_the_palette_is_that_of_pascal_voc():
    assert list_colours()[[0, 1, 2, 3, 15, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [192, 128, 128], [224, 224, 192],
    ]  # fmt: skip


def test_a_segmenter_is_deleted_after_a_question(server, mekiki):
    assert mekiki("delete", "segmenter", "defects").exit_code == ExitCode.USAGE
    assert server.calls("DeleteSegmenter") == []
    assert mekiki("delete", "segmenter", "defects", "--yes").exit_code == ExitCode.DONE
    assert [asked.requests[0].segmenter for asked in server.calls("DeleteSegmenter")] == ["defects"]
