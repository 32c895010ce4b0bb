"""Small sample parts, in a folder and as what the SDK takes: what the main job is tried on."""

from collections.abc import Iterator
from pathlib import Path

import mekiki
from mekiki.sample_parts import render_parts

DATASET = "parts"


def render_small(folder: Path) -> Path:
    """Thirty screws of 160 px, good and bad."""
    render_parts(folder, count=30, seed=3, kinds=("screw",), size=160)
    return folder


def labelled(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Each picture's path, split and label."""
    for path in sorted(folder.glob("t*/*/*.png")):
        yield path, path.parent.parent.name, path.parent.name


def as_items(folder: Path) -> list[mekiki.NewItem]:
    return [
        mekiki.NewItem(item_id=f"{split}/{label}/{path.name}", image=path, labels=(label,), split=split)
        for path, split, label in labelled(folder)
    ]


def as_enrolled(client: mekiki.Client, normals: mekiki.ItemFilter) -> Iterator[mekiki.EnrolledItem]:
    """The prepared items, to be fetched by the service."""
    for read in client.codec.read_items(normals, metadata_only=True):
        reference = mekiki.ItemRef(DATASET, read.item.item_id, form=mekiki.ItemForm.PREPARED)
        yield mekiki.EnrolledItem(read.item.item_id, reference)
