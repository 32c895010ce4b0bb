"""Pictures of items: made when somebody looks, many in one read, and kept within bounds."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from mekiki import AsyncClient, ItemFilter, errors
from mekiki.review.pictures import Picture

READ_ITEMS = 64
"""Most items of one read."""
GATHER_S = 0.005
"""How long a read waits for others to join: a page asks for a screen of pictures at once."""


class Shelf:
    """Keeps the pictures that were used last, up to so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self.stored_bytes = 0

    def get(self, name: str) -> Picture | None:
        """A picture, None where it is not there (any more)."""
        if name in self._pictures:
            self._pictures.move_to_end(name)
        return self._pictures.get(name)

    def put(self, name: str, picture: Picture) -> None:
        """Keeps a picture; the ones that were not used for longest go."""
        old = self._pictures.pop(name, None)
        self.stored_bytes += len(picture.data) - (len(old.data) if old else 0)
        self._pictures[name] = picture
        while self.stored_bytes > self._most_bytes:
            self.stored_bytes -= len(self._pictures.popitem(last=False)[1].data)

    def has_room(self) -> bool:
        """Whether more fits without loss."""
        return self.stored_bytes < 0.9 * self._most_bytes


class Album:
    """Pictures of one kind of a data set's items. For one event loop."""

    def __init__(
        self, client: AsyncClient, dataset: str, draw: Callable[[NDArray[Any]], Picture], most_bytes: int
    ) -> None:
        self._client = client
        self._dataset = dataset
        self._draw = draw
        self._shelf = Shelf(most_bytes)
        self._wanted: dict[str, asyncio.Future[Picture]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find(self, item_id: str) -> Picture:
        """The picture of an item.

        Raises:
            MekikiError: there is no such item, it is damaged, or the service does not answer.
        """
        kept = self._shelf.get(item_id)
        if kept is not None:
            return kept
        if item_id not in self._wanted:
            self._wanted[item_id] = asyncio.get_running_loop().create_future()
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_wanted())
        return await asyncio.shield(self._wanted[item_id])

    async def fill(self, item_ids: Sequence[str]) -> None:
        """Draws pictures ahead of whoever will ask for them, as far as they fit. What fails is left to be asked for."""
        for start in range(0, len(item_ids), READ_ITEMS):
            some = [each for each in item_ids[start : start + READ_ITEMS] if self._shelf.get(each) is None]
            if not self._shelf.has_room():
                return
            wanted = ItemFilter(self._dataset, item_ids=some)
            async for read in self._client.codec.read_items(wanted, storage_order=True):
                if read.result is not None:
                    self._shelf.put(read.item.item_id, await asyncio.to_thread(self._draw, read.result))

    async def close(self) -> None:
        """Ends a read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read_wanted(self) -> None:
        await asyncio.sleep(GATHER_S)
        while self._wanted:
            some = dict(list(self._wanted.items())[:READ_ITEMS])
            try:
                await self._read_some(list(some))
                self._fail(some, errors.NotFound("the service did not send it"))
            except errors.MekikiError as error:
                self._fail(some, error)
            except BaseException:
                self._fail(dict(self._wanted), errors.Cancelled("the picture was not made"))
                raise

    async def _read_some(self, item_ids: list[str]) -> None:
        wanted = ItemFilter(self._dataset, item_ids=item_ids)
        async for read in self._client.codec.read_items(wanted, storage_order=True):
            if read.error is not None:
                self._fail({read.item.item_id: self._wanted[read.item.item_id]}, read.error)
            elif read.item.item_id in self._wanted:
                await self._draw_one(read.item.item_id, read.pixels)

    async def _draw_one(self, item_id: str, pixels: NDArray[Any]) -> None:
        try:
            picture = await asyncio.to_thread(self._draw, pixels)
        except (OSError, TypeError, ValueError):
            self._fail({item_id: self._wanted[item_id]}, errors.DataLoss("these pixels cannot be drawn"))
        else:
            self._shelf.put(item_id, picture)
            self._wanted.pop(item_id).set_result(picture)

    def _fail(self, some: dict[str, asyncio.Future[Picture]], error: errors.MekikiError) -> None:
        for item_id, waiting in some.items():
            self._wanted.pop(item_id, None)
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever asked may have left: nobody is warned of it
