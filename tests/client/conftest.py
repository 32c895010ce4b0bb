from collections.abc import Iterator

import pytest

import mekiki
from tests.client.fake_server import FAST, FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.server.start()
    yield fake
    fake.server.stop(None).wait()


@pytest.fixture
def client(server: FakeServer) -> Iterator[mekiki.Client]:
    with mekiki.Client(server.address, options=FAST) as client:
        yield client
