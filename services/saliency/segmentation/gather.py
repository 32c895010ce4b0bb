"""Brings a training's items with labels, and masks and trimaps where these count, from codec into files, one by one."""

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np

import mekiki
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.saliency.pictures import Pixels, prepare
from services.saliency.recipe import Report
from services.saliency.segmentation.labelled import LabelledSet, fit_mask, fit_trimap

PHASE = "reading images"
MOST_LABELS = 100


@dataclass(frozen=True)
class Gathered:
    """What there is to train on; `damaged` names what could not be read, `unlabelled` counts what says nothing."""

    data: LabelledSet
    damaged: tuple[str, ...]
    unlabelled: int

    @property
    def left_out_count(self) -> int:
        """Items that are not trained on."""
        return len(self.damaged) + self.unlabelled


@dataclass(frozen=True)
class _Plan:
    """Which items are read, and what each shows: its labels without the normal ones, in their order."""

    shown: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...]
    unlabelled: int


def gather_labelled_items(
    codec: mekiki.Client,
    items: types_pb2.ItemFilter,
    size: int,
    limit: int,
    report: Report,
    *,
    normal_labels: Collection[str],
    use_masks: bool,
) -> Gathered:
    """Read all labelled items that `items` selects, each squeezed to (size, size, 3) as it arrives.

    In memory there is one image at a time: pictures and masks lie in temporary files, mapped, and vanish with the set.
    Items without a label are left out, and so are damaged ones, which are reported.
    Raises InvalidArgument (before any pixel is read) for fewer than two kinds of items, a kind with a single one, a
    normal label that no item has, too many labels, or more than `limit` items.
    """
    wanted = types_pb2.ItemFilter()
    wanted.CopyFrom(items)
    wanted.form = types_pb2.ITEM_FORM_ORIGINAL
    plan = _plan(codec, wanted, limit, normal_labels)
    damaged: list[str] = []
    with tempfile.TemporaryFile() as pictures, tempfile.TemporaryFile() as masks:
        spool = _Spool(plan.labels, size, pictures, masks)
        for read in codec.codec.read_items(wanted, with_masks=use_masks):
            shown = plan.shown.get(read.item.item_id)
            if shown is None:  # appended since
                continue
            if read.error is not None:
                damaged.append(read.item.item_id)
            else:
                spool.add(read, shown)
            report(PHASE, len(spool.groups) + len(damaged), len(plan.shown), damaged_items=len(damaged))
        if not spool.groups:
            raise InvalidArgument("items", f"all {len(damaged)} items are damaged")
        return Gathered(spool.close(), tuple(damaged), plan.unlabelled)


class _Spool:
    """Takes items as they arrive, into files."""

    def __init__(self, labels: tuple[str, ...], size: int, pictures: IO[bytes], masks: IO[bytes]) -> None:
        self._labels = labels
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._size = size
        self._files = pictures, masks
        self._shown: list[list[int]] = []
        self._drawn: dict[int, bool] = {}  # by number of the picture, whether all of it is known
        self.groups: list[str] = []

    def add(self, read: mekiki.ReadItem, shown: tuple[str, ...]) -> None:
        """Take an item that shows these labels."""
        pictures, masks = self._files
        numbers = [self._numbers[label] for label in shown]
        pictures.write(prepare(read.pixels, self._size, f"items/{read.item.item_id}").tobytes())
        # A mask is about the item's first label: of a normal one it says nothing.
        if read.mask is not None and read.mask.any() and read.item.label in shown:
            masks.write(fit_mask(read.mask, self._size, numbers[0], alone=len(numbers) == 1).tobytes())
            self._drawn[len(self.groups)] = True
        elif read.trimap is not None and read.item.label in shown:
            inside, outside = read.trimap == mekiki.Trimap.OBJECT, read.trimap == mekiki.Trimap.BACKGROUND
            masks.write(fit_trimap(inside, outside, self._size, numbers[0]).tobytes())
            self._drawn[len(self.groups)] = False
        self._shown.append(numbers)
        self.groups.append(read.item.group)

    def close(self) -> LabelledSet:
        """Give the set."""
        pictures, masks = self._files
        present = np.zeros((len(self._shown), len(self._labels)), np.bool_)
        for number, shown in enumerate(self._shown):
            present[number, shown] = True
        side = self._size
        maps = _map(masks, (len(self._drawn), side, side)) if self._drawn else ()
        drawn = dict(zip(self._drawn, maps, strict=True))
        return LabelledSet(
            pictures=_map(pictures, (len(self._shown), side, side, 3)),
            labels=self._labels,
            present=present,
            mains=np.array([shown[0] if shown else -1 for shown in self._shown], np.int64),
            groups=tuple(self.groups),
            masks={number: mask for number, mask in drawn.items() if self._drawn[number]},
            trimaps={number: trimap for number, trimap in drawn.items() if not self._drawn[number]},
        )


def _map(spool: IO[bytes], shape: tuple[int, ...]) -> Pixels:
    spool.flush()
    return np.memmap(spool, np.uint8, mode="r", shape=shape)


def _plan(codec: mekiki.Client, items: types_pb2.ItemFilter, limit: int, normal_labels: Collection[str]) -> _Plan:
    shown: dict[str, tuple[str, ...]] = {}
    unlabelled, seen = 0, set[str]()
    for read in codec.codec.read_items(items, metadata_only=True):
        if not read.item.labels:
            unlabelled += 1
            continue
        seen.update(read.item.labels)
        distinct = dict.fromkeys(read.item.labels)
        shown[read.item.item_id] = tuple(label for label in distinct if label not in normal_labels)
        if len(shown) > limit:
            raise InvalidArgument("items", f"must be at most MEKIKI_MAX_TRAINING_ITEMS, {limit}, are more")
    missing = sorted(set(normal_labels) - seen)
    if missing:
        raise InvalidArgument("normal_labels", f"must be labels of the items, none has {missing[0]!r}")
    labels = tuple(sorted({label for labels in shown.values() for label in labels}))
    if len(labels) > MOST_LABELS:
        raise InvalidArgument(
            "items", f"must have at most {MOST_LABELS} labels that are not normal, have {len(labels)}"
        )
    _check_kinds(Counter(labels[0] if labels else "" for labels in shown.values()))
    return _Plan(shown, labels, unlabelled)


def _check_kinds(kinds: Counter[str]) -> None:
    """Refuse what no classifier can learn from; `kinds` counts items by first label, normal ones by ""."""
    names = ", ".join(repr(name) if name else "normal ones" for name in sorted(kinds)) or "none"
    if len(kinds) < 2:
        raise InvalidArgument("items", f"must be of two labels, or of one and normal; found {names}")
    lonely = next((name for name in sorted(kinds) if kinds[name] < 2), None)
    if lonely is not None:
        told = f"first label {lonely!r}" if lonely else "normal labels alone"
        raise InvalidArgument("items", f"must be two of each kind or more; there is one with {told}")
