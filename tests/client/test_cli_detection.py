"""`mekiki train object-detector`, `mekiki detect` and `mekiki delete object-detector`."""

import json

import numpy as np
import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2
from PIL import Image
from typer.testing import CliRunner

import mekiki as sdk
from mekiki.cli.app import app
from mekiki.cli.codes import ExitCode
from mekiki.cli.detection import compute_iou, draw_objects, merge_proposals
from mekiki.codec.v1 import codec_pb2
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2

HOSTILE = "[bold red]x[/] \x1b[31m \u202e"
BAD = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="image.encoded: no image")
NUT, BOLT = sdk.Box(1, 2, 7, 9), sdk.Box(20, 4, 30, 28)


@pytest.fixture
def mekiki(server):
    def invoke(*arguments):
        return CliRunner().invoke(app, list(map(str, arguments)), env={"MEKIKI_ADDRESS": server.address})

    return invoke


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def make_answer(*objects):
    found = [saliency_pb2.DetectedObject(box=box.to_proto(), label=label, score=score) for box, label, score in objects]
    model = types_pb2.ModelRef(name="things", version=3)
    return saliency_pb2.DetectObjectsResponse(objects=found, model=model, image_width=40, image_height=30)


TWO = make_answer((NUT, "nut", 0.9), (BOLT, HOSTILE, 0.4))


def write(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((30, 40, 3), 128, np.uint8)).save(folder / name)
    return folder


def answer_frames(server, *answers):
    left = iter(answers)
    server.answers["DetectObjectsInImages"] = lambda _request, _context: next(left)


def test_training_says_what_came_out_and_sends_what_was_asked(server, mekiki):
    made = saliency_pb2.ObjectDetector(name="things", version=2, labels=["bolt", "nut"], left_out_count=4)
    operation = operations_pb2.Operation(name="saliency/operations/1", done=True)
    operation.metadata.Pack(types_pb2.OperationMetadata(verb="TrainObjectDetector"))
    operation.response.Pack(saliency_pb2.TrainObjectDetectorResponse(object_detector=made))
    server.answers["TrainObjectDetector"] = lambda _request, _context: operation
    options = ("--proposed", "--upright", "--epochs", 7, "--input-size", 96, "--scene-share", 0.5, "--split", "train")
    result = mekiki("train", "object-detector", "things", "parts", *options)
    assert result.exit_code == ExitCode.DONE, result.output
    assert "things version 2: bolt, nut" in " ".join(result.output.split())
    (request,) = server.calls("TrainObjectDetector")[0].requests
    assert (request.object_detector, request.items.dataset, list(request.items.splits)) == (
        "things",
        "parts",
        ["train"],
    )
    assert (request.include_proposed, request.upright, request.epochs, request.input_size) == (True, True, 7, 96)
    assert request.scene_share == 0.5
    assert not request.HasField("learning_rate")


def test_images_are_told_one_by_one_and_drawn(server, mekiki, tmp_path):
    folder = write(tmp_path / "in", "a.png", "b.png", "c.png")
    answer_frames(server, TWO, BAD, make_answer())
    result = mekiki("detect", "things", folder, "--out", tmp_path / "out", "--min-score", 0.2, "--json")
    assert result.exit_code == ExitCode.REFUSED
    told = lines(result)
    assert [len(line.get("objects", ())) for line in told] == [2, 0, 0]
    assert told[0]["objects"][0]["box"] == {"x_min": 1, "y_min": 2, "x_max": 7, "y_max": 9}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "c.png"}
    drawn = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert (drawn[2, 1] != 128).any()
    assert (np.asarray(Image.open(tmp_path / "out" / "c.png")) == 128).all()
    assert server.calls("DetectObjectsInImages")[0].requests[0].request.min_score == pytest.approx(0.2)


def test_a_hostile_label_is_spelled_out(server, mekiki, tmp_path):
    answer_frames(server, TWO)
    result = mekiki("detect", "things", write(tmp_path / "in", "a.png"))
    assert result.exit_code == ExitCode.DONE, result.output
    assert not set("\x1b\u202e") & set(result.output)


@pytest.mark.parametrize(
    "arguments", [(), ("a.png", "--dataset", "d"), ("a.png", "--propose"), ("--dataset", "d", "--out", "o")]
)
def test_images_and_items_are_not_mixed(mekiki, arguments):
    assert mekiki("detect", "things", *arguments).exit_code == ExitCode.USAGE


def store_items(server, *items):
    """A codec that holds items, refuses edits with a stale etag, and remembers."""
    held = {item.item_id: item for item in items}

    def read(_request, _context):
        yield from (codec_pb2.ReadItemsResponse(item=item) for item in items)

    def update(request, context):
        item = held[request.item.item_id]
        if request.item.etag != item.etag:
            context.abort(sdk_aborted(), "somebody else was quicker")
        changed = codec_pb2.Item()
        changed.CopyFrom(item)
        del changed.annotations[:]
        changed.annotations.extend(request.item.annotations)
        changed.etag += "+"
        held[item.item_id] = changed
        return codec_pb2.UpdateItemResponse(item=changed)

    server.answers["ReadItems"] = read
    server.answers["UpdateItem"] = update
    server.answers["GetItem"] = lambda request, _context: codec_pb2.GetItemResponse(item=held[request.item_id])
    return held


def sdk_aborted():
    import grpc

    return grpc.StatusCode.ABORTED


def make_item(name, *marks):
    return codec_pb2.Item(item_id=name, etag="1", annotations=[mark.to_proto() for mark in marks])


def mark(box, label, state=sdk.AnnotationState.PROPOSED, source="saliency/things@2"):
    return sdk.Annotation(box, label, 0.5, source, state)


def test_what_is_found_becomes_proposals_and_accepted_boxes_stay(server, mekiki):
    held = store_items(
        server,
        make_item("accepted", mark(NUT, "nut", sdk.AnnotationState.ACCEPTED)),
        make_item("before", mark(NUT, "old")),
        make_item("fresh"),
    )
    answer_frames(server, TWO, TWO, TWO)
    result = mekiki("detect", "things", "--dataset", "heaps", "--propose", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    sent = [frame.request.image.item for frame in server.calls("DetectObjectsInImages")[0].requests]
    assert [(item.dataset, item.item_id) for item in sent] == [("heaps", name) for name in held]
    assert [line["item"] for line in lines(result)] == ["accepted", "before", "fresh"]
    assert [len(item.annotations) for item in held.values()] == [1, 2, 2]
    assert {one.source for one in held["before"].annotations} == {"saliency/things@3"}
    assert [one.needs_review for one in held["fresh"].annotations] == [False, True]


def test_without_propose_nothing_is_written(server, mekiki):
    store_items(server, make_item("fresh"))
    answer_frames(server, TWO)
    assert mekiki("detect", "things", "--dataset", "heaps").exit_code == ExitCode.DONE
    assert server.calls("UpdateItem") == []


def test_an_item_that_somebody_else_changes_meanwhile_is_read_again(server, mekiki):
    held = store_items(server, make_item("busy"))
    edited = make_item("busy", mark(BOLT, "bolt", sdk.AnnotationState.REJECTED, "anna"))
    edited.etag = "2"
    held["busy"] = edited
    answer_frames(server, make_answer((NUT, "nut", 0.9), (sdk.Box(21, 4, 30, 28), "bolt", 0.8)))
    assert mekiki("detect", "things", "--dataset", "heaps", "--propose").exit_code == ExitCode.DONE
    assert [(one.label, one.source) for one in held["busy"].annotations] == [
        ("bolt", "anna"),
        ("nut", "saliency/things@3"),
    ]


def test_proposals_of_others_and_rejected_boxes_stay():
    item = sdk.Item.from_proto(
        make_item(
            "1",
            mark(NUT, "nut"),
            mark(BOLT, "bolt", source="boxfit/exact saliency/parts@3"),
            mark(BOLT, "nut", sdk.AnnotationState.REJECTED),
        )
    )
    proposals = [mark(NUT, "nut"), mark(sdk.Box(20, 5, 30, 28), "nut"), mark(sdk.Box(20, 5, 30, 28), "bolt")]
    assert merge_proposals(item, proposals) == [*item.annotations[1:], proposals[0], proposals[2]]


def test_the_overlap_of_boxes_is_that_of_their_areas():
    assert compute_iou(sdk.Box(0, 0, 2, 2), sdk.Box(1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert compute_iou(sdk.Box(0, 0, 2, 2), sdk.Box(2, 0, 4, 2)) == 0


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (30, 40, 3), (30, 40, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_boxes_are_drawn_on_any_image_whatever_their_labels(shape, dtype):
    objects = [sdk.DetectedObject(NUT, "\u30ca\u30c3\u30c8" * 400, 0.9), sdk.DetectedObject(BOLT, "", 0.1)]
    drawn = draw_objects(np.zeros(shape, dtype), objects)
    assert drawn.shape == (30, 40, 3)
    assert (drawn[4:28, 20] != 0).any(axis=1).all()


def test_a_detector_is_deleted_after_a_question(server, mekiki):
    assert mekiki("delete", "object-detector", "things").exit_code == ExitCode.USAGE
    assert server.calls("DeleteObjectDetector") == []
    assert mekiki("delete", "object-detector", "things", "--yes").exit_code == ExitCode.DONE
    assert [asked.requests[0].object_detector for asked in server.calls("DeleteObjectDetector")] == ["things"]
