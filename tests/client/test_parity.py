"""Both colours and the contract are one: nothing is in one and not in the other."""

import inspect
import re

import numpy as np
import pytest

import mekiki
from mekiki._wire import asynchronous, synchronous
from tests.client.fake_server import SERVICES

PARTS = [*SERVICES, "operations"]


def public(cls):
    return {name: member for name, member in inspect.getmembers(cls) if not name.startswith("_")}


def pairs():
    yield mekiki.AsyncClient, mekiki.Client
    yield mekiki.AsyncOperation, mekiki.Operation
    for part in PARTS:
        yield type_of(mekiki.AsyncClient, part), type_of(mekiki.Client, part)


def type_of(client, part):
    module = inspect.getmodule(client)
    return getattr(module, ("Async" if client is mekiki.AsyncClient else "") + part.title())


def shape(function):
    """Names, kinds and defaults of the parameters."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("asynchronous", "synchronous"), list(pairs()), ids=lambda cls: cls.__name__)
def test_both_colours_have_the_same_methods_with_the_same_signatures(asynchronous, synchronous):
    assert public(asynchronous).keys() == public(synchronous).keys()
    for name, method in public(asynchronous).items():
        twin = public(synchronous)[name]
        if callable(method):
            assert shape(method) == shape(twin), name
            assert not inspect.iscoroutinefunction(twin)
            assert not inspect.isasyncgenfunction(twin)
        assert method.__doc__ == twin.__doc__


@pytest.mark.parametrize("part", PARTS)
def test_every_call_of_the_async_client_is_awaited_or_iterated(part):
    for name, method in public(type_of(mekiki.AsyncClient, part)).items():
        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method), name


def test_the_two_transports_offer_the_same():
    assert asynchronous.__all__ == synchronous.__all__
    for name in ("call_unary", "each", "open_channel", "open_exchange", "spawn", "stop"):
        names = [list(inspect.signature(getattr(side, name)).parameters) for side in (asynchronous, synchronous)]
        assert names[0] == names[1]


RPCS = [(part, method) for part, service in SERVICES.items() for method in service.methods]


@pytest.mark.parametrize(("part", "method"), RPCS, ids=lambda value: getattr(value, "name", value))
def test_every_rpc_is_a_method_of_its_name_with_its_fields(part, method):
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    sdk = getattr(type_of(mekiki.Client, part), name)
    assert sdk.__doc__
    parameters = set(inspect.signature(sdk).parameters) - {"self", "timeout_s", "window"}
    request = method.input_type
    if method.client_streaming and "request" in request.fields_by_name:
        request = request.fields_by_name["request"].message_type
    missing = {field.name for field in request.fields} - parameters - ELSEWHERE.get(method.name, set())
    assert missing <= {"page_size", "page_token", "id"}, "a field that no caller can set"


# Fields whose parameter has another name, because a stream takes many or a oneof is one argument.
ELSEWHERE = {
    "AppendItems": {"item"},
    "UpdateItem": {"item", "update_mask"},
    "PrepareImages": {"image"},
    "ClassifyImages": {"image"},
    "ExplainImages": {"image"},
    "FilterImages": {"image"},
    "DetectObjectsInImages": {"image"},
    "SegmentImages": {"image"},
    "ScoreImages": {"image"},
    "AnnotateImages": {"image"},
    "FitBox": {"mask", "heatmap"},
    "FitBoxes": {"mask", "heatmap"},
    "TrainDetector": {"patch", "metric", "padim"},
}


@pytest.mark.parametrize(("part", "method"), RPCS, ids=lambda value: getattr(value, "name", value))
def test_every_rpc_is_called_by_the_method_of_its_name(server, client, part, method):
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    result = None
    try:
        result = getattr(getattr(client, part), name)(*ARGUMENTS[name])
        list(result if inspect.isgenerator(result) else ())
    except (mekiki.errors.Internal, IndexError, ValueError):
        pass  # the fake answers empty messages, of which some make no value
    assert [asked.rpc for asked in server.asked] == [method.name]


PNG = b"\x89PNG"
ARGUMENTS = {
    "create_dataset": ["d"],
    "get_dataset": ["d"],
    "list_datasets": [],
    "delete_dataset": ["d"],
    "append_items": ["d", [mekiki.NewItem("1", PNG)]],
    "read_items": ["d"],
    "get_item": ["d", "1"],
    "update_item": ["d", "1"],
    "encode_dataset": ["d"],
    "preview_encoding": ["d", ["1"], 28],
    "compact_dataset": ["d"],
    "verify_dataset": ["d"],
    "prepare_image": ["d", PNG],
    "prepare_images": ["d", [PNG]],
    "train_classifier": ["c", "d"],
    "get_classifier": ["c"],
    "list_classifiers": [],
    "delete_classifier": ["c"],
    "classify_image": ["c", PNG],
    "classify_images": ["c", [PNG]],
    "explain_image": ["c", PNG],
    "explain_images": ["c", [PNG]],
    "filter_image": ["c", PNG, ["l"]],
    "filter_images": ["c", [PNG], ["l"]],
    "train_object_detector": ["o", "d"],
    "get_object_detector": ["o"],
    "list_object_detectors": [],
    "delete_object_detector": ["o"],
    "detect_objects": ["o", PNG],
    "detect_objects_in_images": ["o", [PNG]],
    "train_segmenter": ["s", "d"],
    "get_segmenter": ["s"],
    "list_segmenters": [],
    "delete_segmenter": ["s"],
    "segment_image": ["s", PNG],
    "segment_images": ["s", [PNG]],
    "fit_box": [np.ones((2, 2), bool)],
    "fit_boxes": [[np.ones((2, 2), bool)]],
    "annotate_image": ["c", PNG],
    "tune_compression": [mekiki.Configuration("j", "d")],
    "run_trials": [[mekiki.Configuration("d", "d")], "d"],
    "annotate_images": ["c", [PNG]],
    "annotate_dataset": ["c", "d"],
    "calibrate_boxes": ["c", "d"],
    "train_detector": ["a", "d"],
    "get_detector": ["a"],
    "list_detectors": [],
    "delete_detector": ["a"],
    "promote_detector": ["a@2"],
    "rollback_detector": ["a"],
    "enroll_items": ["a", [mekiki.EnrolledItem("1", PNG)]],
    "forget_items": ["a", ["1"]],
    "calibrate_detector": ["a", "d"],
    "score_image": ["a", PNG],
    "score_images": ["a", [PNG]],
    "evaluate_detector": ["a", "d"],
}
