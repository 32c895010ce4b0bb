"""Answers PreviewEncoding, with what lines leave of the machine."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from mekiki.codec.v1 import codec_pb2
from services.codec.model import Codec
from services.codec.preview import Wanted, preview
from services.runtime.images import encode_tensor

NICENESS = 10


def open_previewing() -> ThreadPoolExecutor:
    """Returns what previews are made in: one at a time, after whatever else there is to do."""
    return ThreadPoolExecutor(1, thread_name_prefix="preview", initializer=_give_way)


async def stream_preview(
    codec: Codec, wanted: Wanted, threads: ThreadPoolExecutor
) -> AsyncIterator[codec_pb2.PreviewEncodingResponse]:
    """Yields one response an item; raises as `preview`."""
    loop = asyncio.get_running_loop()
    frames = preview(codec, wanted)
    while (frame := await loop.run_in_executor(threads, next, frames, None)) is not None:
        image = encode_tensor(frame.pixels)
        yield codec_pb2.PreviewEncodingResponse(item_id=frame.item_id, image=image, frame_bytes=frame.frame_bytes)


def _give_way() -> None:
    with suppress(OSError):  # of Linux a thread has a priority of its own, elsewhere it may have none
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
