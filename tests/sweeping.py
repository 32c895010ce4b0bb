"""That a service sweeps its store by itself."""

import asyncio
import os
from pathlib import Path

import pytest


async def check_that_it_sweeps(serve, opening, store, folder: Path, orphan: str, **settings: object) -> None:
    """Starts the service over `store`, which lies in `folder`, and waits until the object that nobody names is gone."""
    store.create(orphan, b"")
    os.utime(folder / orphan, (0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.runtime.sweep.FIRST_AFTER_S", 0.1)
        await serve([opening], **settings)
        for _ in range(1200):
            if not store.exists(orphan):
                return
            await asyncio.sleep(0.05)
    pytest.fail("nothing was swept")
