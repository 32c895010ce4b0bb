import pytest
from boxfit_neighbours import FakeCodec, FakeSaliency, open_codec, open_saliency

import mekiki
from tests.conftest import ROOT


@pytest.fixture
def saliency():
    return FakeSaliency()


@pytest.fixture
def codec():
    return FakeCodec()


@pytest.fixture
async def address(serve, saliency, codec, monkeypatch):
    from services.boxfit.__main__ import OPENING

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    return await serve([open_codec(codec), open_saliency(saliency), OPENING], max_map_pixels=10_000)


@pytest.fixture
async def client(address):
    async with mekiki.AsyncClient(address) as client:
        yield client
