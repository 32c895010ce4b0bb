import pytest

import mekiki
from tests.running import running_services
from tests.small_parts import render_small


@pytest.fixture(scope="session")
def house(tmp_path_factory):
    limits = {"MEKIKI_WEIGHTS_HUB": "false", "MEKIKI_MAX_MESSAGE_BYTES": str(16 << 20)}
    with running_services(tmp_path_factory.mktemp("house"), limits) as running:
        yield running


@pytest.fixture(scope="session")
def client(house):
    with mekiki.Client(house.address) as made:
        yield made


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return render_small(tmp_path_factory.mktemp("parts"))
