from collections.abc import Iterator

import pytest
from review_house import House
from review_people import launching

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


@pytest.fixture
async def house(serve):
    from services.codec.__main__ import OPENING

    async with mekiki.AsyncClient(await serve([OPENING], u2net_home="/nowhere", segment_wait_ms=10)) as client:
        yield House(client.codec)


@pytest.fixture
async def browser():
    async with launching() as chromium:
        yield chromium
