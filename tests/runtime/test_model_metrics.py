import pytest
from prometheus_client import REGISTRY

from mekiki.anomaly.v1 import anomaly_pb2
from services.runtime.model_metrics import KnownModels

RPC = "/test.Models/Score"


@pytest.fixture
def models():
    made = KnownModels(limit=2)
    yield made
    for name in ("a", "b", "c"):
        made.forget("detector", name)


def score(name):
    return anomaly_pb2.ScoreImageRequest(detector=name)


def counted(name, code="OK"):
    labels = {"rpc": RPC, "kind": "detector", "model": name}
    return REGISTRY.get_sample_value("mekiki_model_calls_total", labels | {"code": code})


def test_only_models_that_exist_count(models):
    models.meet("detector", "a")
    models.count(RPC, score("a"), "OK", 0.1)
    models.count(RPC, score("a"), "DATA_LOSS", 0.1)
    models.count(RPC, score("b"), "NOT_FOUND", 0.1)
    models.count(RPC, object(), "OK", 0.1)
    assert (counted("a"), counted("a", "DATA_LOSS"), counted("b", "NOT_FOUND")) == (1, 1, None)


def test_a_classifier_is_not_a_detector_of_the_same_name(models):
    models.meet("classifier", "a")
    models.count(RPC, score("a"), "OK", 0.1)
    assert counted("a") is None


def test_a_forgotten_model_takes_its_series_along(models):
    for name in ("a", "b"):
        models.meet("detector", name)
        models.count(RPC, score(name), "OK", 0.1)
    models.forget("detector", "a")
    models.forget("detector", "never met")
    models.count(RPC, score("a"), "OK", 0.1)  # a call that was under way
    assert (counted("a"), counted("b")) == (None, 1)


def test_the_number_of_models_is_bounded_and_the_one_not_met_for_the_longest_goes(models):
    for name in ("a", "b", "a", "c"):
        models.meet("detector", name)
        models.count(RPC, score(name), "OK", 0.1)
    assert (counted("a"), counted("b"), counted("c")) == (2, None, 1)
