"""The commands that make pictures, from folders and from data sets, to folders and to data sets."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mekiki._values.image import from_mask, to_image
from mekiki.cli.app import app
from mekiki.cli.codes import ExitCode
from mekiki.cli.folder import read_folder
from mekiki.codec.v1 import codec_pb2
from mekiki.formats import write_dataset
from mekiki.types.v1 import types_pb2
from tests.client.test_augment import GREEN, RED, scene


@pytest.fixture
def mekiki(server):
    def invoke(*arguments):
        return CliRunner().invoke(app, list(map(str, arguments)), env={"MEKIKI_ADDRESS": server.address})

    return invoke


@pytest.fixture
def folder(tmp_path):
    pictures = [
        scene(("nut", GREEN, 40, 30, 90, 80), name="nut", split="train"),
        scene(("cap", RED, 60, 20, 100, 90), name="cap", split="train"),
        scene(("cap", RED, 60, 20, 100, 90), name="judged", split="test"),
    ]
    write_dataset("coco", tmp_path / "few", pictures, lossless=True)
    return tmp_path / "few"


def hold(server):
    """A data set of five items: two that are settled, and what nothing may be learned from."""
    picture = scene(("nut", GREEN, 40, 30, 90, 80))
    states = {"good": (2,), "open": (1, 2), "wrong": (3,), "bare": (), "test": (2,)}
    box = types_pb2.Box(x_min=40, y_min=30, x_max=90, y_max=80)

    def read(request, _context):
        for name, each in sorted(states.items()):
            item = codec_pb2.Item(item_id=name, labels=["nut"], split="test" if name == "test" else "")
            for state in each:
                item.annotations.add(label="nut", state=state, box=box)
            if not request.items.item_ids or name in request.items.item_ids:
                image = None if request.metadata_only else to_image(picture.pixels)
                yield codec_pb2.ReadItemsResponse(item=item, image=image)

    server.answers["ReadItems"] = read


def test_few_pictures_of_a_folder_become_many_in_any_format(mekiki, folder, tmp_path):
    result = mekiki("augment", folder, "--to", 7, "--out", tmp_path / "many", "--format", "yolo", "--json")
    assert result.exit_code == ExitCode.DONE, result.output
    assert json.loads(result.stdout) == {"pictures": 7, "failed": 0, "place": str(tmp_path / "many")}
    files = read_folder(tmp_path / "many").files
    assert len(files) == 7
    assert not any("judged" in file.item_id for file in files)
    assert {file.split for file in files} == {"train"}
    assert all(len(file.boxes) == 1 for file in files)


def test_the_same_seed_makes_the_same_bytes(mekiki, folder, tmp_path):
    for place, seed in (("one", 5), ("two", 5), ("three", 6)):
        for command in ("augment", "compose"):
            out = tmp_path / place / command
            done = mekiki(command, folder, "--to", 5, "--out", out, "--format", "coco", "--seed", seed)
            assert done.exit_code == ExitCode.DONE, done.output

    def read(place):
        root = tmp_path / place
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert read("one") == read("two")
    assert read("one").keys() == read("three").keys() or read("one") != read("three")
    assert read("one") != read("three")


def test_a_data_set_becomes_a_larger_one(server, mekiki):
    hold(server)
    result = mekiki("augment", "parts", "--to", 6, "--into", "more", "--json")
    assert json.loads(result.stdout)["pictures"] == 6
    assert server.calls("CreateDataset")[0].requests[0].dataset == "more"
    sent = [request.item for request in server.calls("AppendItems")[0].requests]
    assert sorted(item.item_id for item in sent) == [
        "bare", "bare-0001", "bare-0002", "good", "good-0001", "good-0002",
    ]  # fmt: skip
    assert {item.group for item in sent} == {"bare", "good"}
    assert [len(item.annotations) for item in sent] == [0, 0, 0, 1, 1, 1]
    assert {item.split for item in sent} == {"train"}


def test_proposed_boxes_are_taken_on_request(server, mekiki):
    hold(server)
    mekiki("augment", "parts", "--to", 3, "--into", "more", "--proposed")
    sent = [request.item for request in server.calls("AppendItems")[0].requests]
    assert [(item.item_id, len(item.annotations)) for item in sent] == [("bare", 0), ("good", 1), ("open", 2)]


def test_scenes_are_composed_onto_backgrounds_with_boxes_and_masks(server, mekiki, folder, tmp_path):
    write_dataset("csv", tmp_path / "tables", [scene(name="table", labels=("empty",)), scene(name="x", labels=("no",))])
    result = mekiki(
        "compose", folder, "--to", 3, "--onto", tmp_path / "tables", "--onto-label", "empty", "--into", "scenes",
        "--least-parts", 2, "--most-parts", 2,
    )  # fmt: skip
    assert result.exit_code == ExitCode.DONE, result.output
    assert "2 parts cut out, 0 boxes left alone" in result.stdout
    sent = [request.item for request in server.calls("AppendItems")[0].requests]
    assert [item.item_id for item in sent] == [f"images/table-000{n}.jpg" for n in (1, 2, 3)]
    for item in sent:
        assert 1 <= len(item.annotations) <= 2
        assert {note.label for note in item.annotations} <= {"nut", "cap"}
        assert from_mask(item.mask).any()


def test_without_backgrounds_the_parts_of_the_source_are_painted_over(mekiki, folder, tmp_path):
    assert mekiki("compose", folder, "--to", 2, "--out", tmp_path / "scenes").exit_code == ExitCode.DONE
    files = read_folder(tmp_path / "scenes").files
    assert len(files) == 2
    assert all(file.boxes and file.outlines for file in files)


def test_a_refused_picture_ends_with_the_exit_code_for_it(server, mekiki, folder):
    from google.rpc import code_pb2, status_pb2

    bad = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="item.image: too large")
    server.answers["AppendItems"] = lambda request, _: bad if request.id.endswith("-0001.png") else None
    result = mekiki("augment", folder, "--to", 4, "--into", "more")
    assert result.exit_code == ExitCode.REFUSED
    assert "item.image: too large" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", 5], "say either --into DATASET or --out FOLDER"),
        (["--to", 5, "--into", "a", "--out", "b"], "say either --into DATASET or --out FOLDER"),
        (["--to", 0, "--into", "a"], "must be at least 1, is 0"),
        (["--to", 5, "--into", "a", "--turn", 999], "turn_deg must be 0 to 180, is 999"),
        (["--to", 5, "--into", "a", "--label", "gear"], "holds no such pictures"),
    ],
)
@pytest.mark.parametrize("command", ["augment", "compose"])
def test_wrong_usage_is_told(mekiki, folder, command, arguments, complaint):
    result = mekiki(command, folder, *arguments)
    assert result.exit_code == ExitCode.USAGE, result.output
    assert complaint in result.stderr


def test_a_missing_extra_is_named(server, mekiki, folder, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("mekiki.augment")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("mekiki.augment", raising=False)
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = mekiki("augment", folder, "--to", 5, "--into", "a")
    assert result.exit_code == ExitCode.USAGE
    assert 'pip install "mekiki[augment]"' in result.stderr


def test_16_bit_files_are_read_as_8_bits(mekiki, tmp_path):
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.full((30, 40), 0x8012, np.uint16)).save(tmp_path / "deep/a.png")
    assert mekiki("augment", tmp_path / "deep", "--to", 1, "--out", tmp_path / "o", "--lossless").exit_code == 0
    with Image.open(tmp_path / "o/JPEGImages/a.png") as image:
        assert np.asarray(image).max() == 0x80
