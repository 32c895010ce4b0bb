"""Brings a training's items from codec into a file of prepared pictures, one at a time."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

import mekiki
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.saliency.pictures import prepare
from services.saliency.recipe import Report, TrainingSet, number_labels

PHASE = "reading images"


@dataclass(frozen=True)
class Gathered:
    """What there is to train on; `damaged` names the items that could not be read and were left out."""

    data: TrainingSet
    damaged: tuple[str, ...]


def gather_items(codec: mekiki.Client, items: types_pb2.ItemFilter, size: int, limit: int, report: Report) -> Gathered:
    """Read all labelled items that `items` selects, each squeezed to (size, size, 3) as it arrives.

    In memory there is one image at a time: the pictures lie in a temporary file, mapped, and vanish with the training
    set. Items without a label are left out, and so are damaged ones, which are reported.
    Raises InvalidArgument for fewer than two labels (before any pixel is read), or more than `limit` items.
    """
    items = _pin(codec, items)
    expected = _count_labelled(codec, items, limit)
    found, aspects, damaged = [], [], []
    with tempfile.TemporaryFile() as spool:
        for item in _read_labelled(codec, items):
            if item.error is not None:
                damaged.append(item.item.item_id)
                continue
            spool.write(prepare(item.pixels, size, f"items/{item.item.item_id}").tobytes())
            found.append(item.item)
            aspects.append(item.pixels.shape[1] / item.pixels.shape[0])
            report(PHASE, len(found) + len(damaged), expected, damaged_items=len(damaged))
        number_labels([item.label for item in found])
        data = TrainingSet(
            pictures=_map(spool, (len(found), size, size, 3)),
            labels=tuple(item.label for item in found),
            groups=tuple(item.group for item in found),
            item_ids=tuple(item.item_id for item in found),
            aspects=tuple(aspects),
        )
    return Gathered(data, tuple(damaged))


def _pin(codec: mekiki.Client, items: types_pb2.ItemFilter) -> types_pb2.ItemFilter:
    """The items of the encoding that is the newest now: one that comes meanwhile must not be mixed in."""
    pinned = types_pb2.ItemFilter()
    pinned.CopyFrom(items)
    if items.form == types_pb2.ITEM_FORM_PREPARED and not items.encoding_id:
        newest = codec.codec.get_dataset(items.dataset).encodings[-1:]
        pinned.encoding_id = newest[0].encoding_id if newest else ""
    return pinned


def _count_labelled(codec: mekiki.Client, items: types_pb2.ItemFilter, limit: int) -> int:
    labels = [item.item.label for item in codec.codec.read_items(items, metadata_only=True) if item.item.label]
    if len(labels) > limit:
        raise InvalidArgument("items", f"{len(labels)} labelled items are more than MEKIKI_MAX_TRAINING_ITEMS, {limit}")
    number_labels(labels)
    return len(labels)


def _read_labelled(codec: mekiki.Client, items: types_pb2.ItemFilter) -> Iterator[mekiki.ReadItem]:
    return (item for item in codec.codec.read_items(items) if item.item.label)


def _map(spool: IO[bytes], shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    spool.flush()
    return np.memmap(spool, np.uint8, mode="r", shape=shape)
