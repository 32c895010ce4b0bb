"""Detectors that are costly to make are made once."""

import pytest
import torch
from anomaly_parts import draw_parts, enroll_parts, train_parts


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny images on many threads only fight each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def raw_model():
    return train_parts()


@pytest.fixture(scope="session")
def prepared_model():
    return train_parts(prepared=True)


@pytest.fixture(scope="session")
def raw_detector(raw_model):
    return enroll_parts(raw_model, draw_parts(16))


@pytest.fixture(scope="session")
def prepared_detector(prepared_model):
    return enroll_parts(prepared_model, draw_parts(16))
