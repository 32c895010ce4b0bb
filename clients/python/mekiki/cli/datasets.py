"""Commands about data sets: push, pull, compact, verify."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mekiki import (
    Annotation,
    Box,
    Client,
    Item,
    ItemFilter,
    ItemForm,
    NewItem,
    errors,
)
from mekiki.cli.codes import ExitCode
from mekiki.cli.episodes import is_recording, read_episodes, read_items
from mekiki.cli.files import Places, hash_file, read_mask, write_pixels
from mekiki.cli.folder import ImageFile, read_folder
from mekiki.cli.output import Output
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session
from mekiki.formats.outlines import draw_outlines
from mekiki.formats.picture import read_size

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="Name of the data set.")]
Splits = Annotated[list[str] | None, typer.Option("--split", help="Only items of this split; may be repeated.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="Only items with this label; may be repeated.")]


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="train/<label>, test/<label>, or <label>/.")],
    dataset: DatasetName,
    *,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Push a folder of images to a data set, which is created when it is not there.

    Item identifiers are the paths below the folder, so pushing again adds what is new, and an interrupted push goes on
    where it stopped; an image that is there without boxes gets those that the folder has.
    Beside train/ and test/, masks of defects are taken from ground_truth/<label>/<name>_mask.png, or
    masks/<label>/<name>.png. Boxes, and masks that come with them, are taken from annotation files, which are found by
    themselves: Pascal VOC, YOLO, COCO, Datumaro, LabelMe, CVAT for images, CSV. Of a recording as LeRobot lays it out
    (meta/info.json, videos/) every frame becomes an item.
    """
    with session(address, json=json) as (client, output):
        source = _open_recording(folder) if is_recording(folder) else _open_folder(folder, output)
        create_dataset(client, dataset)
        failed = _append(client, output, dataset, source)
        described = client.codec.get_dataset(dataset)
        output.say(
            f"{described.name}: {described.item_count} items, {described.original_bytes:,} bytes as files, "
            f"{described.stored_bytes:,} bytes stored"
        )
        output.value(described)
        if failed:
            raise typer.Exit(ExitCode.REFUSED)


def create_dataset(client: Client, dataset: str) -> None:
    """Creates a data set where there is none of that name."""
    try:
        client.codec.create_dataset(dataset)
    except errors.AlreadyExists:
        return


def to_new_item(file: ImageFile) -> NewItem:
    """An image of a folder as an item, with its mask where it has one."""
    mask = read_mask(file.mask) if file.mask else None
    if mask is None and file.outlines:
        mask = draw_outlines(file.outlines, *read_size(file.path))
    return NewItem(file.item_id, file.path, labels=file.labels, split=file.split, annotations=file.boxes, mask=mask)


@dataclass(frozen=True)
class _Source:
    """What is pushed: how many items, and which of them are not among those that are known by their SHA-256."""

    count: int
    list_new: Callable[[Mapping[str, str]], Iterator[NewItem]]
    boxes: Mapping[str, Sequence[Annotation]]
    """By item: of those that have some."""


def _open_folder(folder: Path, output: Output) -> _Source:
    content = read_folder(folder)
    if content.ignored:
        output.warn(f"ignored beside the splits: {', '.join(content.ignored)}")
    if content.left_out:
        output.warn(f"{content.left_out} boxes without an area, of crowds or beyond their image are left out")
    if content.resized:
        output.warn(
            f"the boxes of {len(content.resized)} images are left out, which have another size than their annotations "
            f"say, such as {content.resized[0]}"
        )
    boxes = sum(len(file.boxes) for file in content.files)
    if boxes:
        output.say(f"{boxes:,} boxes come with {len(content.files):,} images")

    def list_new(known: Mapping[str, str]) -> Iterator[NewItem]:
        return (to_new_item(file) for file in content.files if not _is_there(file, known))

    return _Source(len(content.files), list_new, {file.item_id: file.boxes for file in content.files if file.boxes})


def _is_there(file: ImageFile, known: Mapping[str, str]) -> bool:
    return known.get(file.item_id) == hash_file(file.path) != ""


def _open_recording(folder: Path) -> _Source:
    episodes = read_episodes(folder)

    def list_new(known: Mapping[str, str]) -> Iterator[NewItem]:
        items = (item for episode in episodes for item in read_items(episode))
        return (item for item in items if item.item_id not in known)

    return _Source(sum(episode.frames for episode in episodes), list_new, {})


def _append(client: Client, output: Output, dataset: str, source: _Source) -> int:
    """Appends what is not there yet; returns how many items failed."""
    known, boxed = _look(client, output, dataset, source)
    answered = failed = 0
    started, sent = time.monotonic(), 0

    def new_items() -> Iterator[NewItem]:
        nonlocal sent
        for item in source.list_new(known):
            sent += measure(item)
            yield item

    with output.bar(f"pushing to {dataset}") as bar:
        for answered, answer in enumerate(client.codec.append_items(dataset, new_items()), 1):
            speed = sent / max(time.monotonic() - started, 1e-3) / 1e6
            bar.show(answered, source.count, f"pushing to {dataset}, {speed:.1f} MB/s")
            if answer.error is not None:
                failed += 1
                boxed.pop(answer.id, None)
                output.warn(f"{answer.id}: {answer.error.message}")
    _add_boxes(client, output, dataset, source, boxed)
    if answered < source.count:
        output.say(f"{source.count - answered} of {source.count} images were there already")
    return failed


def _look(client: Client, output: Output, dataset: str, source: _Source) -> tuple[dict[str, str], dict[str, Item]]:
    """What is there already: all items' SHA-256, and those items that the source has boxes for."""
    known, boxed = {}, {}
    with output.bar(f"looking what {dataset} has") as bar:
        for number, read in enumerate(client.codec.read_items(dataset, metadata_only=True), 1):
            bar.show(number, None)
            known[read.item.item_id] = read.item.sha256
            if read.item.item_id in source.boxes:
                boxed[read.item.item_id] = read.item
    return known, boxed


def _add_boxes(client: Client, output: Output, dataset: str, source: _Source, items: Mapping[str, Item]) -> None:
    """Gives items that were there already without boxes those of the source; boxes that are there stay as they are."""
    bare = [item for item in items.values() if not item.annotations]
    for item in bare:
        client.codec.update_item(dataset, item.item_id, annotations=source.boxes[item.item_id], etag=item.etag)
    if bare:
        output.say(f"{len(bare)} images that were there already got their boxes")
    kept = sum(_places(item.annotations) != _places(source.boxes[name]) for name, item in items.items()) - len(bare)
    if kept:
        output.warn(f"{kept} images that were there already keep the boxes that they have, which are others")


def _places(notes: Sequence[Annotation]) -> set[tuple[str, Box]]:
    return {(note.label, note.box) for note in notes}


def measure(item: NewItem) -> int:
    """Bytes of an item's file, or of its pixels."""
    return item.image.stat().st_size if isinstance(item.image, Path) else int(np.asarray(item.image).nbytes)


def pull(  # noqa: PLR0913 -- a command's options
    dataset: DatasetName,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write PNG files to.")],
    *,
    form: Annotated[ItemForm, typer.Option(help="Exact pixels, or those of an encoding.")] = ItemForm.ORIGINAL,
    encoding: Annotated[str, typer.Option(help="Which encoding; default the newest.")] = "",
    category: Annotated[str, typer.Option(help="Only this category of the encoding.")] = "",
    split: Splits = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Pull the images of a data set into a folder, at the paths that their identifiers give."""
    wanted = ItemFilter(
        dataset, labels=label or (), splits=split or (), form=form, encoding_id=encoding, category=category
    )
    with session(address, json=json) as (client, output):
        places = Places(out, ".png")
        failed = 0
        with output.bar(f"pulling {dataset}") as bar:
            for number, read in enumerate(client.codec.read_items(wanted), 1):
                bar.show(number, None)
                if read.error is not None:
                    failed += 1
                    output.warn(f"{read.item.item_id}: {read.error.message}")
                    continue
                path = write_pixels(places.place(read.item.item_id), read.pixels)
                output.value({"item_id": read.item.item_id, "path": str(path)})
        output.say(f"{places.count} images in {out}")
        if failed:
            raise typer.Exit(ExitCode.REFUSED)


def compact(dataset: DatasetName, *, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Write the exact images that were pushed anew: alike ones together, as small as they get, none changed."""
    with session(address, json=json) as (client, output):
        made = follow(client.codec.compact_dataset(dataset), output, f"compacting {dataset}")
        output.say(
            f"{dataset} version {made.dataset_version}: {made.moved_count} images, "
            f"{made.bytes_before:,} bytes before, {made.bytes_after:,} now"
        )
        for item_id in made.unreadable:
            output.warn(f"{item_id} is damaged and stays where it is")
        output.value(made)
        if made.unreadable:
            raise typer.Exit(ExitCode.REFUSED)


def verify(dataset: DatasetName, *, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Read everything of a data set and say what is damaged; lists are mended from their copies."""
    with session(address, json=json) as (client, output):
        found = follow(client.codec.verify_dataset(dataset), output, f"verifying {dataset}")
        output.say(
            f"{dataset} version {found.dataset_version}: {found.item_count} items read, {len(found.damages)} damages, "
            f"{found.mended_count} files mended"
        )
        if found.damages:
            rows = [(one.item_id or "-", one.encoding_id or "exact", one.reason) for one in found.damages]
            output.table(["item", "form", "reason"], rows)
        output.value(found)
        if found.damages:
            raise typer.Exit(ExitCode.REFUSED)
