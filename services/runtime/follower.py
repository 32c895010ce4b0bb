"""Following what others write: read again beside the calls, and served from memory where the store is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from services.runtime.errors import MekikiError
from services.runtime.logs import get_logger

PATIENCE = 4
"""After so many times the usual interval without a reading a call waits for one: nobody asked for a while."""

ANSWER_S = 2.0
"""A store that takes longer counts as away."""


class Follower:
    """Repeats a reading as long as calls come. A call waits for it after a silence, never for a store that is away.

    Args:
        name: what is read, for the log.
        read: reads, and keeps what it read; one at a time.
        every_s: how often.
    """

    def __init__(self, name: str, read: Callable[[], Awaitable[object]], every_s: float) -> None:
        self._name = name
        self._read = read
        self._every_s = every_s
        self._as_of_s = float("-inf")  # when the last reading that succeeded began
        self._begun_s = float("-inf")
        self._one = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._away = False

    async def read(self) -> None:
        """Knows, on return, what was so when it was called; raises what the reading raises."""
        asked_s = time.monotonic()
        async with self._one:
            if self._as_of_s < asked_s:  # else whoever was before us has read since
                self._begun_s = begun_s = time.monotonic()
                await self._read()
                self._as_of_s, self._away = begun_s, False

    async def catch_up(self) -> None:
        """The same where the store answers soon; else what was read last stays in use."""
        if self._as_of_s == float("-inf"):
            await self.read()
        elif self._away:
            await self.follow()
        else:
            await self._wait(asyncio.create_task(self._try()))

    async def follow(self) -> None:
        """Returns when what is known is recent enough, or cannot be had; raises only where nothing is known yet."""
        if self._as_of_s == float("-inf"):
            return await self.read()
        behind_s = time.monotonic() - self._as_of_s
        if behind_s <= self._every_s:
            return None
        if self._reading is None or (self._reading.done() and time.monotonic() - self._begun_s > self._every_s):
            self._reading = asyncio.create_task(self._try())
        if behind_s > PATIENCE * self._every_s and not self._away:
            await self._wait(self._reading)
        return None

    async def _wait(self, reading: asyncio.Task[None]) -> None:
        done, _ = await asyncio.wait({reading}, timeout=ANSWER_S)
        if not done:
            self._miss("no answer yet")

    async def _try(self) -> None:
        try:
            await self.read()
        except MekikiError as error:
            self._miss(str(error))

    def _miss(self, why: str) -> None:
        if not self._away:
            get_logger().warning("what was read last stays in use", what=self._name, error=why)
        self._away = True
