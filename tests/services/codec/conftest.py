import pytest

from services.codec.dataset import Datasets
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.open(f"file://{tmp_path / 'store'}").prefixed("codec")


@pytest.fixture
def open_datasets():
    return lambda store: Datasets(store, lambda prefix: ManifestLog(store, prefix, has_copies=True))


@pytest.fixture
def datasets(store, open_datasets):
    return open_datasets(store)
