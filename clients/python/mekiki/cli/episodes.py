"""Recordings as LeRobot lays them out: videos of episodes, a camera each, of which every frame becomes an item.

meta/info.json       `splits`, such as {"train": "0:50"}: numbers of episodes, half open
meta/episodes.jsonl  a line an episode: `episode_index`, `tasks`
videos/**/*.mp4      `episode_000007.mp4` below a folder of the camera's name; other names count as an episode, too

That is version 2 of the format (its repository's documentation); of version 3 the videos are read, and what is told of
episodes there is not. An item's group is its episode: frames of one are no strangers to each other.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki import NewItem
from mekiki.cli.plain import to_item_id

INSTALL = "pip install 'mekiki[video]'"
_EPISODE = re.compile(r"episode_(\d+)")


@dataclass(frozen=True)
class Episode:
    """A video, and what is told of it."""

    path: Path
    name: str
    """Its path below the folder, without the ending: how its items' identifiers begin."""

    group: str
    split: str
    labels: tuple[str, ...]
    frames: int


def is_recording(folder: Path) -> bool:
    """Whether a folder is laid out so."""
    return (folder / "meta" / "info.json").is_file() and (folder / "videos").is_dir()


def read_episodes(folder: Path) -> tuple[Episode, ...]:
    """Lists the videos of a recording, by name.

    Raises:
        ValueError: a file cannot be read, there is no video, or what reads videos is not installed.
    """
    info = _read_json(folder / "meta" / "info.json")
    tasks = _read_tasks(folder / "meta" / "episodes.jsonl")
    found = []
    for path in sorted((folder / "videos").rglob("*.mp4")):
        match = _EPISODE.search(path.stem)
        number = int(match[1]) if match else None
        name = to_item_id(path.relative_to(folder).with_suffix("").as_posix())
        group = f"episode {number}" if number is not None else name
        labels = tasks.get(number, ()) if number is not None else ()
        found.append(Episode(path, name, group, _find_split(info, number), labels, _count_frames(path)))
    if not found:
        raise ValueError(f"{folder / 'videos'} holds no MP4 files")
    return tuple(found)


def read_items(episode: Episode) -> Iterator[NewItem]:
    """Yields the frames of an episode as items, decoded one at a time.

    Raises:
        ValueError: the video cannot be read.
    """
    for number, pixels in enumerate(_decode(episode.path)):
        item_id = f"{episode.name}/{number:06d}"
        yield NewItem(item_id, pixels, labels=episode.labels, group=episode.group, split=episode.split)


def _decode(path: Path) -> Iterator[NDArray[np.uint8]]:
    av = _open_av()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: cannot be read as a video ({error.strerror})") from error


def _count_frames(path: Path) -> int:
    av = _open_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: holds no video")
            stream = container.streams.video[0]
            return int(stream.frames) or sum(1 for packet in container.demux(stream) if packet.size)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: cannot be read as a video ({error.strerror})") from error


def _open_av() -> Any:  # noqa: ANN401 - PyAV has no types
    try:
        import av  # noqa: PLC0415 - only recordings need it
    except ImportError as error:
        raise ValueError(f"videos are read by PyAV: {INSTALL}") from error
    return av


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is no JSON object ({error})") from error


def _read_tasks(path: Path) -> dict[int, tuple[str, ...]]:
    if not path.is_file():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {int(line["episode_index"]): tuple(map(str, line.get("tasks", ()))) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no list of episodes ({error!r})") from error


def _find_split(info: Mapping[str, Any], number: int | None) -> str:
    splits = info.get("splits", {})
    if number is None or not isinstance(splits, dict):
        return ""
    for name, told in splits.items():
        first, _, end = str(told).partition(":")
        if first.isdigit() and end.isdigit() and int(first) <= number < int(end):
            return str(name)
    return ""
