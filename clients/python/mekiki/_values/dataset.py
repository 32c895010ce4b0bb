"""Data sets, and what selects their items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Self

from mekiki._values.annotation import time_of
from mekiki._values.encoding import Encoding
from mekiki._values.image import ItemForm
from mekiki.codec.v1 import codec_pb2
from mekiki.types.v1 import types_pb2


@dataclass(frozen=True)
class ItemFilter:
    """Items of one data set, selected by conditions that must all hold."""

    dataset: str
    item_ids: Sequence[str] = ()
    """Only these items; empty means all."""

    labels: Sequence[str] = ()
    """Only items that carry at least one of these labels; empty means any."""

    splits: Sequence[str] = ()
    """Only items of one of these splits; empty means any."""

    form: ItemForm = ItemForm.ORIGINAL
    encoding_id: str = ""
    """For prepared pixels: which encoding; empty means the newest."""

    category: str = ""
    """For prepared pixels: only items of this category of the encoding; empty means any."""

    def to_proto(self) -> types_pb2.ItemFilter:
        """For the wire."""
        return types_pb2.ItemFilter(
            dataset=self.dataset,
            item_ids=self.item_ids,
            labels=self.labels,
            splits=self.splits,
            form=self.form.to_proto(),
            encoding_id=self.encoding_id,
            category=self.category,
        )


ItemsLike = ItemFilter | str | types_pb2.ItemFilter
"""Which items: a filter, or the name of a data set for all of its items, as they were appended."""


def to_item_filter(items: ItemsLike) -> types_pb2.ItemFilter:
    """Which items are meant, for the wire."""
    match items:
        case types_pb2.ItemFilter():
            return items
        case str():
            return types_pb2.ItemFilter(dataset=items)
    return items.to_proto()


@dataclass(frozen=True)
class Compaction:
    """What writing the exact pixels of a data set anew came to."""

    dataset_version: int
    moved_count: int
    """Images that lie elsewhere now."""

    bytes_before: int
    bytes_after: int
    unreadable: tuple[str, ...]
    """Items that could not be read and stay where they are."""

    @classmethod
    def from_proto(cls, response: codec_pb2.CompactDatasetResponse) -> Self:
        """From the wire."""
        return cls(
            dataset_version=response.dataset_version,
            moved_count=response.moved_count,
            bytes_before=response.bytes_before,
            bytes_after=response.bytes_after,
            unreadable=tuple(response.unreadable_item_ids),
        )


@dataclass(frozen=True)
class Damage:
    """Something in a data set that cannot be read as it was written."""

    item_id: str
    """The item; empty where no item is lost by it."""

    encoding_id: str
    """The encoding that it is damaged in; empty for exact pixels."""

    reason: str


@dataclass(frozen=True)
class Verification:
    """What reading everything of a data set came to."""

    dataset_version: int
    item_count: int
    damages: tuple[Damage, ...]
    mended_count: int
    """Files that were damaged and were written anew from their copies."""

    @classmethod
    def from_proto(cls, response: codec_pb2.VerifyDatasetResponse) -> Self:
        """From the wire."""
        return cls(
            dataset_version=response.dataset_version,
            item_count=response.item_count,
            damages=tuple(Damage(each.item_id, each.encoding_id, each.reason) for each in response.damages),
            mended_count=response.mended_count,
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as it is now."""

    name: str
    version: int
    item_count: int
    original_bytes: int
    """Bytes of the images as they were sent (files as files, tensors as raw pixels)."""

    stored_bytes: int
    """Bytes that the exact images take in the store."""

    label_counts: Mapping[str, int]
    split_counts: Mapping[str, int]
    """Items by split; items without one count under ""."""

    encodings: tuple[Encoding, ...]
    """Prepared versions, oldest first."""

    create_time: datetime

    @classmethod
    def from_proto(cls, dataset: codec_pb2.Dataset) -> Self:
        """From the wire."""
        return cls(
            name=dataset.name,
            version=dataset.version,
            item_count=dataset.item_count,
            original_bytes=dataset.original_bytes,
            stored_bytes=dataset.stored_bytes,
            label_counts=MappingProxyType(dict(dataset.label_counts)),
            split_counts=MappingProxyType(dict(dataset.split_counts)),
            encodings=tuple(map(Encoding.from_proto, dataset.encodings)),
            create_time=time_of(dataset.create_time),
        )
