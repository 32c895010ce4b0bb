"""Between a stream of frames and the servicer: a frame that is not let through is answered here, in its place."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import cache
from typing import Any

from google.protobuf import descriptor_pool, message_factory

from services.runtime.errors import MekikiError
from services.runtime.status import to_status

AHEAD = 1024
"""Most frames that are read before their answers are sent; services keep to a smaller window by themselves."""

Slot = asyncio.Future[Any]


class FrameGate:
    """One stream: each frame has a slot for its one answer, and answers leave in the order of the slots.

    The servicer sees the frames that `check` lets through and answers each of them, in order; the others never
    reach it.
    """

    def __init__(
        self, frames: AsyncIterable[Any], check: Callable[[Any], None], response_type: Callable[..., Any]
    ) -> None:
        self._frames = frames
        self._check = check
        self._response_type = response_type
        self._slots: asyncio.Queue[Slot | None] = asyncio.Queue(AHEAD)
        self._waiting: deque[Slot] = deque()  # slots of frames that the servicer has
        self._answered: Slot | None = None  # of the servicer's last answer
        self._sent = asyncio.Event()  # it has left

    async def passed(self) -> AsyncIterator[Any]:
        """The frames for the servicer."""
        async for frame in self._frames:
            slot: Slot = asyncio.get_running_loop().create_future()
            await self._slots.put(slot)
            try:
                self._check(frame)
            except MekikiError as error:
                slot.set_result(self._response_type(id=frame.id, error=to_status(error)))
            else:
                self._waiting.append(slot)
                yield frame

    async def answers(self, responses: AsyncIterable[Any]) -> AsyncIterator[Any]:
        """All answers, the servicer's and our own, in order."""
        pump = asyncio.create_task(self._pump(responses))
        try:
            while (slot := await self._slots.get()) is not None:
                yield await slot
                if slot is self._answered:
                    self._sent.set()
            await pump
        finally:
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await pump

    async def _pump(self, responses: AsyncIterable[Any]) -> None:
        """Puts the servicer's answers into their slots; when it ends, so does the stream."""
        try:
            async for response in responses:
                self._sent.clear()
                self._answered = self._waiting.popleft()
                self._answered.set_result(response)
                await self._sent.wait()  # who reads slowly must not make answers pile up here
            self._check_complete()
        except Exception as error:
            if self._waiting:
                self._waiting.popleft().set_exception(error)
            else:
                await self._slots.put(None)
            raise
        await self._slots.put(None)

    def _check_complete(self) -> None:
        if self._waiting:
            raise RuntimeError("the servicer ended the stream before it had answered all frames")


@cache
def response_type_of(rpc: str) -> Callable[..., Any]:
    """The class of an RPC's answers, by the path of its calls."""
    method = descriptor_pool.Default().FindMethodByName(rpc.removeprefix("/").replace("/", "."))
    return message_factory.GetMessageClass(method.output_type)
