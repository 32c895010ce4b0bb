"""`mekiki triage`, against a server that takes bright images for wanted ones, black ones for unlike anything seen."""

import io
import json

import numpy as np
import pytest
from google.rpc import code_pb2, status_pb2
from PIL import Image
from typer.testing import CliRunner

from mekiki.cli.app import app
from mekiki.cli.codes import ExitCode
from mekiki.saliency.v1 import saliency_pb2

KEPT = saliency_pb2.Filter(
    threshold=0.4,
    wanted_distance=0.5,
    unlike_distance=0.4,
    promised_recall=0.985,
    recall=saliency_pb2.Rate(count=298, total=300, lower=0.976, upper=0.998),
    precision=saliency_pb2.Rate(count=298, total=400, lower=0.7, upper=0.79),
    needed_count=149,
    held_out_unit_count=12,
)


def judge(request, _context):
    try:
        value = int(np.asarray(Image.open(io.BytesIO(request.request.image.encoded))).max())
    except OSError:
        return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="image.encoded: no image")
    verdict = "WANTED" if value > 200 else "UNLIKE" if value == 0 else "UNWANTED"
    return saliency_pb2.FilterImageResponse(verdict=f"FILTER_VERDICT_{verdict}", probability=value / 255, filter=KEPT)


@pytest.fixture
def triage(server):
    server.answers["FilterImages"] = judge
    classifier = saliency_pb2.Classifier(name="kinds", version=1, labels=["drawing", "photo"], split_by="group")
    server.answers["GetClassifier"] = lambda _r, _c: saliency_pb2.GetClassifierResponse(classifier=classifier)

    def invoke(*arguments):
        words = ["triage", *map(str, arguments), "--classifier", "kinds", "--want", "drawing"]
        return CliRunner().invoke(app, words, env={"MEKIKI_ADDRESS": server.address})

    return invoke


@pytest.fixture
def mixed(tmp_path):
    folder = tmp_path / "mixed"
    for name, value in {"a/1.png": 250, "a/2.png": 90, "b/1.png": 255, "b/black.png": 0}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8), value, np.uint8)).save(folder / name)
    return folder


def list_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


SORTED = {"wanted/a/1.png", "wanted/b/1.png", "unlike/b/black.png"}


def test_wanted_and_unlike_images_are_copied_and_the_promise_is_told(server, triage, mixed, tmp_path):
    out = tmp_path / "out"
    result = triage(mixed, "--copy", out, "--recall", 0.97)
    assert result.exit_code == ExitCode.DONE, result.output
    assert list_files(out) == SORTED
    assert (out / "wanted/a/1.png").read_bytes() == (mixed / "a/1.png").read_bytes()
    assert not (out / "wanted/a/1.png").is_symlink()
    assert "2 wanted, 1 unlike anything seen, 1 unwanted, 0 refused" in result.stdout
    assert "at least 98.5% of wanted images are called wanted, with 95% confidence" in result.stdout
    assert "298 of 400 (74.5%; 95 % interval 70.0% to 79.0%)" in result.stdout
    assert result.stderr == ""
    (call,) = server.calls("FilterImages")
    asked = call.requests[0].request
    assert (list(asked.wanted_labels), asked.recall, asked.confidence) == (["drawing"], 0.97, 0.95)
    assert len(call.requests) == 4


def test_links_lead_to_the_images_and_a_second_time_changes_nothing(triage, mixed, tmp_path):
    out = tmp_path / "out"
    for _ in range(2):
        assert triage(mixed, "--link", out).exit_code == ExitCode.DONE
        assert list_files(out) == SORTED
        assert (out / "unlike/b/black.png").resolve() == (mixed / "b/black.png").resolve()


def test_copying_again_goes_on_but_never_overwrites_another_file(triage, mixed, tmp_path):
    out = tmp_path / "out"
    assert triage(mixed, "--copy", out).exit_code == ExitCode.DONE
    assert triage(mixed, "--copy", out).exit_code == ExitCode.DONE
    (out / "wanted/a/1.png").write_bytes(b"somebody's own")
    result = triage(mixed, "--copy", out)
    assert result.exit_code == ExitCode.USAGE
    assert "exists already" in result.stderr
    assert (out / "wanted/a/1.png").read_bytes() == b"somebody's own"


def test_without_a_place_nothing_is_written_and_scripts_get_a_line_an_image(triage, mixed):
    before = list_files(mixed.parent)
    told = [json.loads(line) for line in triage(mixed, "--json").stdout.splitlines()]
    assert [line["verdict"] for line in told[:-1]] == ["wanted", "unwanted", "wanted", "unlike"]
    assert told[-1]["counts"] == {"wanted": 2, "unwanted": 1, "unlike": 1, "refused": 0}
    assert told[-1]["filter"]["needed_count"] == 149
    assert list_files(mixed.parent) == before


def test_an_image_that_cannot_be_read_is_refused_alone(triage, mixed, tmp_path):
    (mixed / "a" / "torn.png").write_bytes(b"torn")
    result = triage(mixed, "--copy", tmp_path / "out")
    assert result.exit_code == ExitCode.REFUSED
    assert "torn.png: image.encoded: no image" in result.stderr
    assert list_files(tmp_path / "out") == SORTED


def test_too_few_held_out_items_are_told_with_how_many_it_would_need(server, triage, mixed):
    few = saliency_pb2.Filter()
    few.CopyFrom(KEPT)
    few.promised_recall, few.held_out_unit_count, few.recall.total, few.recall.count = 0.9, 2, 28, 28
    server.answers["FilterImages"] = lambda _r, _c: saliency_pb2.FilterImageResponse(
        verdict="FILTER_VERDICT_WANTED", filter=few
    )
    result = triage(mixed)
    assert "28 wanted items were held out; a recall of 98.0% with 95% confidence needs 149" in result.stderr
    assert "they come from 2 groups" in result.stderr


@pytest.mark.parametrize(
    "place",
    [
        ["--copy", "x", "--link", "y"],
        ["--copy", "{mixed}/out"],
        ["--link", "{mixed}"],
        ["--want", "x"],
        ["--recall", "1"],
    ],
)
def test_what_cannot_be_is_wrong_usage_and_nobody_is_asked(server, triage, mixed, place):
    result = triage(mixed, *(word.format(mixed=mixed) for word in place))
    assert result.exit_code == ExitCode.USAGE, result.output
    assert not server.calls("FilterImages")
