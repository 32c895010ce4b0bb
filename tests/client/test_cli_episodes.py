"""Recordings as LeRobot lays them out."""

import json

import av
import numpy as np
import pytest

from mekiki.cli.codes import ExitCode
from mekiki.cli.episodes import is_recording, read_episodes, read_items
from mekiki.codec.v1 import codec_pb2
from services.runtime.images import decode_image
from tests.client.test_cli import mekiki  # noqa: F401 - a fixture

CAMERA = "observation.images.top"


def film(path, frames, size=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=25, options={"crf": "1"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            picture = np.full((size, size, 3), 20 + 30 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def recording(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps({"fps": 25, "splits": {"train": "0:2", "test": "2:3"}}))
    episodes = [{"episode_index": n, "tasks": ["pick the bolt"], "length": 3} for n in range(3)]
    (tmp_path / "meta/episodes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in episodes))
    for number in range(3):
        film(tmp_path / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4", 3)
    return tmp_path


def test_every_frame_is_an_item_with_its_episode_split_and_task(recording):
    assert is_recording(recording)
    episodes = read_episodes(recording)
    assert [(each.group, each.split, each.labels, each.frames) for each in episodes] == [
        (f"episode {n}", "test" if n == 2 else "train", ("pick the bolt",), 3) for n in range(3)
    ]
    items = list(read_items(episodes[1]))
    assert [item.item_id for item in items] == [f"videos/chunk-000/{CAMERA}/episode_000001/{n:06d}" for n in range(3)]
    assert [round(float(item.image.mean()), -1) for item in items] == [20, 50, 80]
    assert {(item.group, item.split) for item in items} == {("episode 1", "train")}


def test_push_sends_frames_and_goes_on_where_it_stopped(server, mekiki, recording):  # noqa: F811
    assert mekiki("push", recording, "robot").exit_code == ExitCode.DONE
    sent = [request.item for request in server.calls("AppendItems")[0].requests]
    assert len(sent) == 9
    assert {decode_image(item.image, 10_000).shape for item in sent} == {(64, 64, 3)}
    assert sent[0].group == "episode 0"
    known = [item.item_id for item in sent[:7]]

    def read_known(_request, _context):
        yield from (codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=name)) for name in known)

    server.answers["ReadItems"] = read_known
    result = mekiki("push", recording, "robot")
    again = [request.item.item_id for request in server.calls("AppendItems")[1].requests]
    assert again == [item.item_id for item in sent[7:]]
    assert "7 of 9 images were there already" in result.stdout


def test_other_names_count_as_episodes_too(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    film(tmp_path / f"videos/{CAMERA}/chunk-000/file-000.mp4", 2)
    (episode,) = read_episodes(tmp_path)
    name = f"videos/{CAMERA}/chunk-000/file-000"
    assert (episode.name, episode.group, episode.split, episode.labels) == (name, name, "", ())


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("meta/info.json", "[1]", "info.json: is no JSON object"),
        ("meta/episodes.jsonl", "{}", "episodes.jsonl: is no list of episodes"),
        (f"videos/chunk-000/{CAMERA}/episode_000001.mp4", "no video", "episode_000001.mp4: cannot be read as a video"),
    ],
)
def test_what_cannot_be_read_is_named(recording, file, text, complaint):
    (recording / file).write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_episodes(recording)


def test_a_recording_without_videos_is_refused(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no MP4 files"):
        read_episodes(tmp_path)
