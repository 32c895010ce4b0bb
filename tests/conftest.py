"""What tests of several rooms share: where real data lies, and a real server on a free port."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Returns a folder of the real test data, or skips the test and says why."""
    base = Path(os.environ.get("MEKIKI_TEST_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        if not (base / name).is_dir():
            pytest.skip(f"no real data: {base / name} does not exist (set MEKIKI_TEST_DATA)")
        return base / name

    return find


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Starts a server with the given openings on a free port; returns its address. It drains at the end."""
    from services.runtime.server import Opening, Server

    async with AsyncExitStack() as stack:

        async def start(openings: Sequence[Opening], **settings: object) -> str:
            fields = {"port": 0, "metrics_port": 0, "store_url": f"file://{tmp_path / 'store'}", **settings}
            server = Server(openings, [opening.settings_class(**fields) for opening in openings])
            await server.start()
            stack.push_async_callback(server.drain)
            return f"127.0.0.1:{server.port}"

        yield start
