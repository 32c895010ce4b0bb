"""Items of a data set for PyTorch: `pip install "mekiki[torch]"`.

from torch.utils.data import DataLoader
from mekiki.torch import ItemDataset

parts = ItemDataset("127.0.0.1:8080", ItemFilter("screws", splits=["train"], form=ItemForm.PREPARED))
for images, targets, item_ids in DataLoader(parts, batch_size=16, shuffle=True, num_workers=2): ...
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from mekiki import Client, ClientOptions, Item, ItemFilter, ReadItem

T = TypeVar("T")


class Sample(NamedTuple):
    """An item as a network takes it; `DataLoader` puts them together without further help."""

    image: torch.Tensor
    """(channels, height, width) float32, 0 to 1 of what its depth can say."""

    target: int
    """Number of its main label in the data set's `classes`; -1 where it has none."""

    item_id: str


class _Items(Generic[T]):
    """The selection, listed once, and a connection for each process that reads."""

    _storage_order = False

    def __init__(
        self,
        address: str,
        items: ItemFilter | str,
        transform: Callable[[ReadItem], T] | None = None,
        options: ClientOptions | None = None,
    ) -> None:
        """Lists the items.

        Args:
            address: of the services, as `Client` takes it.
            items: a filter, or a data set's name for all of it. Without an encoding it stays with the newest one.
            transform: makes of an item what `DataLoader` gets; default a `Sample`.
            options: of the connection.

        Raises:
            MekikiError: no such data set, or it cannot be reached.
        """
        self._address = address
        self._options = options
        self._transform = transform
        wanted = ItemFilter(items) if isinstance(items, str) else items
        with self._connect() as client:
            if wanted.form == "prepared" and not wanted.encoding_id:
                newest = client.codec.get_dataset(wanted.dataset).encodings[-1:]
                wanted = replace(wanted, encoding_id=newest[0].encoding_id if newest else "")
            listed = client.codec.read_items(wanted, metadata_only=True, storage_order=self._storage_order)
            self.items: tuple[Item, ...] = tuple(read.item for read in listed)
        self._wanted = wanted
        self.classes = sorted({item.label for item in self.items if item.label})
        """The main labels, sorted; a sample's target is the number of its own."""
        self._numbers = {label: number for number, label in enumerate(self.classes)}
        self._client: Client | None = None
        self._process = 0

    def __len__(self) -> int:
        """Returns how many items were selected."""
        return len(self.items)

    def _connect(self) -> Client:
        return Client(self._address) if self._options is None else Client(self._address, options=self._options)

    def _read(self, item_ids: Sequence[str]) -> Iterator[T]:
        """Reads items, in the order of `items`; raises what is wrong with the first bad one."""
        if self._client is None or self._process != os.getpid():  # a connection does not survive a fork
            self._client, self._process = self._connect(), os.getpid()
        wanted = replace(self._wanted, item_ids=item_ids)
        for read in self._client.codec.read_items(wanted, storage_order=self._storage_order):
            if read.error is not None:
                raise read.error
            yield cast(T, self._to_sample(read)) if self._transform is None else self._transform(read)

    def _to_sample(self, read: ReadItem) -> Sample:
        return Sample(to_tensor(read.pixels), self._numbers.get(read.item.label, -1), read.item.item_id)

    def __getstate__(self) -> dict[str, Any]:
        """Goes to a worker without its connection."""
        return {**self.__dict__, "_client": None}


class ItemDataset(_Items[T], Dataset[T]):
    """Items by number, in the order of their identifiers, for samplers that draw as they like.

    A batch is one request; of a prepared form it decodes a group of pictures for each item. Where the order need not
    be quite random, `ItemStream` is faster.
    """

    def __getitem__(self, number: int) -> T:
        """Reads one item; raises MekikiError where it is damaged."""
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[T]:
        """Reads a batch at once, in the order asked for."""
        names = [self.items[number].item_id for number in numbers]
        asked = sorted(set(names))
        read = dict(zip(asked, self._read(asked), strict=True))
        return [read[name] for name in names]


class ItemStream(_Items[T], IterableDataset[T]):
    """Items one after another as they are stored, read ahead, shared out among the workers of a `DataLoader`.

    What is stored next to each other is alike: a network that learns from them wants a `shuffle` of some hundreds.

    Args:
        shuffle: items that are held and drawn from at random, 1: none. Each pass draws anew from the seed.
        seed: of the drawing.
    """

    _storage_order = True

    def __init__(
        self,
        address: str,
        items: ItemFilter | str,
        transform: Callable[[ReadItem], T] | None = None,
        options: ClientOptions | None = None,
        *,
        shuffle: int = 1,
        seed: int = 0,
    ) -> None:
        """Lists the items; see `ItemDataset` for what is common to both."""
        if shuffle < 1:
            raise ValueError(f"shuffle must be at least 1, is {shuffle}")
        super().__init__(address, items, transform, options)
        self._shuffle = shuffle
        self._seed = seed
        self._passes = 0

    def __iter__(self) -> Iterator[T]:
        """Reads this worker's share; raises MekikiError at the first damaged item."""
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        names = [item.item_id for item in self.items]
        share = names[len(names) * number // count : len(names) * (number + 1) // count]
        random = np.random.default_rng([self._seed, self._passes, number])
        self._passes += 1
        held: list[T] = []
        for sample in self._read(share) if share else ():
            held.append(sample)
            if len(held) >= self._shuffle:
                yield _draw(held, random)
        while held:
            yield _draw(held, random)


def to_tensor(pixels: "np.ndarray[Any, Any]") -> torch.Tensor:
    """Returns (channels, height, width) float32, 0 to 1, of pixels (h, w) or (h, w, c), uint8 or uint16."""
    scaled = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    return torch.from_numpy(scaled[None] if scaled.ndim == 2 else np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def _draw(held: list[T], random: np.random.Generator) -> T:
    """Takes one of the held items; of one that is held alone, that."""
    place = int(random.integers(len(held)))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()
