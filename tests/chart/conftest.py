"""Renderings that several tests look at."""

import pytest
from rendering import VARIANTS, render


@pytest.fixture(scope="session", params=sorted(VARIANTS))
def variant(request):
    """The name of a golden rendering and the rendering itself."""
    return request.param, render(VARIANTS[request.param])


@pytest.fixture(scope="session")
def default():
    return render({})


@pytest.fixture(scope="session")
def secured():
    return render(VARIANTS["tls-auth"])
