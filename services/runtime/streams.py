"""Answers a stream of frames: in order, a bounded number at once, each with its own result or error."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from services.runtime import metrics
from services.runtime.logs import current_rpc, get_logger
from services.runtime.model_metrics import MODELS
from services.runtime.status import CODES, to_status


class Frame(Protocol):
    """A request frame: the caller's tag and what is asked."""

    @property
    def id(self) -> str:
        """The caller's tag."""

    @property
    def request(self) -> Any:  # noqa: ANN401 - each RPC has its own
        """What is asked."""


Answer = TypeVar("Answer")
_CODE_NAMES = {code.value[0]: code.name for code in CODES.values()}


async def answer_frames(
    frames: AsyncIterable[Frame],
    answer_one: Callable[[Any], Awaitable[Any]],
    response_type: Callable[..., Answer],
    window: int,
) -> AsyncIterator[Answer]:
    """Yields one `response_type(id=..., response=... or error=...)` a frame, in order.

    Args:
        frames: the incoming stream; it is not read further than `window` frames ahead of the answers.
        answer_one: answers a frame's request; what it raises becomes that frame's error.
        response_type: message with the fields id, response and error.
        window: most frames in work at once.
    """
    working: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    room = asyncio.Semaphore(window)
    reader = asyncio.create_task(_read(frames, answer_one, response_type, working, room))
    try:
        while (task := await working.get()) is not None:
            yield await task
            room.release()
        await reader
    finally:
        reader.cancel()
        while not working.empty():
            if (task := working.get_nowait()) is not None:
                task.cancel()


async def _read(
    frames: AsyncIterable[Frame],
    answer_one: Callable[[Any], Awaitable[Any]],
    response_type: Callable[..., Answer],
    working: asyncio.Queue[asyncio.Task[Answer] | None],
    room: asyncio.Semaphore,
) -> None:
    try:
        stream = aiter(frames)
        while True:
            await room.acquire()
            frame = await anext(stream, None)
            if frame is None:
                return
            working.put_nowait(asyncio.create_task(_answer(frame, answer_one, response_type)))
    finally:
        working.put_nowait(None)


async def _answer(
    frame: Frame, answer_one: Callable[[Any], Awaitable[Any]], response_type: Callable[..., Answer]
) -> Answer:
    start, code = time.monotonic(), "OK"
    try:
        return response_type(id=frame.id, response=await answer_one(frame.request))
    except asyncio.CancelledError:
        code = "CANCELLED"
        raise
    except Exception as error:  # noqa: BLE001 - a bad frame must not end the stream
        status = to_status(error)
        code = _CODE_NAMES.get(status.code, "INTERNAL")
        if status.code not in _CODE_NAMES:
            get_logger().error("a frame failed", exc_info=error)
        metrics.FRAME_ERRORS.labels(code).inc()
        return response_type(id=frame.id, error=status)
    finally:
        MODELS.count(current_rpc(), frame.request, code, time.monotonic() - start)
