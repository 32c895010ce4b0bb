import itertools
import threading

import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2

import mekiki
from mekiki import errors
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.codec.v1 import codec_pb2
from mekiki.types.v1 import types_pb2
from tests.client.fake_server import FAST

NAME = "anomaly/operations/1"


def record(*, done=False, total=10, steps=0, response=None, error=None):
    operation = operations_pb2.Operation(name=NAME, done=done, error=error)
    metadata = types_pb2.OperationMetadata(verb="TrainDetector", phase="reading", done=steps, total=total)
    operation.metadata.Pack(metadata)
    if response is not None:
        operation.response.Pack(response)
    return operation


TRAINED = anomaly_pb2.TrainDetectorResponse(detector=anomaly_pb2.Detector(name="parts", version=2))


def trains(server, after=2):
    """Training that ends with the `after`th look at it."""
    looks = itertools.count(1)

    def look(_request, _context):
        seen = next(looks)
        return record(done=True, response=TRAINED) if seen >= after else record(steps=seen)

    server.answers["TrainDetector"] = lambda _request, _context: record()
    server.answers["WaitOperation"] = server.answers["GetOperation"] = look


def test_the_result_is_a_value(server, client):
    trains(server)
    operation = client.anomaly.train_detector("parts", "screws")
    assert operation.name == NAME
    detector = operation.result()
    assert isinstance(detector, mekiki.Detector)
    assert (detector.name, detector.version, detector.threshold) == ("parts", 2, None)
    assert operation.result() == detector
    assert len(server.calls("WaitOperation")) == 2


async def test_the_async_operation_is_the_same(server):
    trains(server)
    async with mekiki.AsyncClient(server.address, options=FAST) as client:
        operation = await client.anomaly.train_detector("parts", "screws")
        assert not await operation.done()
        assert (await operation.result(timeout_s=20)).version == 2
        assert await operation.done()


def test_progress_is_asked_for(server, client):
    trains(server, after=4)
    operation = client.anomaly.train_detector("parts", "screws")
    assert operation.seen.done == 0
    progress = operation.progress()
    assert (progress.verb, progress.phase, progress.done, progress.total) == ("TrainDetector", "reading", 1, 10)
    assert operation.seen == progress


def test_a_failure_is_its_own_error(server, client):
    error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="two labels at least")
    server.answers["TrainClassifier"] = lambda _request, _context: record(done=True, error=error)
    operation = client.saliency.train_classifier("c", "d")
    assert operation.done()
    with pytest.raises(errors.FailedPrecondition, match="two labels"):
        operation.result()


def test_cancel_reaches_the_service_and_the_result_says_so(server, client):
    cancelled = threading.Event()
    server.answers["EncodeDataset"] = lambda _request, _context: record()

    def cancel(request, _context):
        assert request.name == NAME
        cancelled.set()
        from google.protobuf.empty_pb2 import Empty

        return Empty()

    error = status_pb2.Status(code=code_pb2.CANCELLED, message="cancelled")
    server.answers["CancelOperation"] = cancel
    server.answers["WaitOperation"] = lambda _r, _c: record(done=True, error=error) if cancelled.is_set() else record()
    operation = client.codec.encode_dataset("screws")
    operation.cancel()
    with pytest.raises(errors.Cancelled):
        operation.result()


def test_a_result_that_takes_too_long_is_a_deadline_and_the_work_goes_on(server, client):
    server.answers["EncodeDataset"] = server.answers["WaitOperation"] = lambda _request, _context: record()
    operation = client.codec.encode_dataset("screws")
    with pytest.raises(errors.DeadlineExceeded, match="goes on"):
        operation.result(timeout_s=0.05)
    assert not server.calls("CancelOperation")


def test_an_operation_is_found_again_by_its_name(server, client):
    trains(server, after=1)
    operation = client.operations.get_operation(NAME)
    assert operation.result().name == "parts"
    with pytest.raises(ValueError, match="begins with one of"):
        client.operations.get_operation("nowhere/operations/1")


def test_all_pages_of_all_services_are_listed(server, client):
    def list_(request, _context):
        if request.page_token == "":
            return operations_pb2.ListOperationsResponse(operations=[record()], next_page_token="more")
        return operations_pb2.ListOperationsResponse(operations=[record(done=True, response=TRAINED)])

    server.answers["ListOperations"] = list_
    assert len(client.operations.list_operations()) == 8
    assert len(client.operations.list_operations("codec")) == 2
    assert {request.name for call in server.calls("ListOperations") for request in call.requests} == {
        "codec", "saliency", "boxfit", "anomaly",
    }  # fmt: skip


def test_a_result_of_a_later_version_is_an_error_not_a_guess(server, client):
    server.answers["EncodeDataset"] = lambda _request, _context: record(done=True, response=codec_pb2.Dataset())
    with pytest.raises(errors.Internal, match=r"codec\.v1\.Dataset"):
        client.codec.encode_dataset("screws").result()


def test_any_number_of_items_is_enrolled_in_calls_of_64(server, client):
    def enroll(request, _context):
        version = len(server.calls("EnrollItems"))
        return anomaly_pb2.EnrollItemsResponse(bank_version=version, enrolled_count=len(request.items))

    server.answers["EnrollItems"] = enroll
    enrolment = client.anomaly.enroll_items("parts", (mekiki.EnrolledItem(str(i), b"png") for i in range(150)))
    assert (enrolment.bank_version, enrolment.enrolled_count) == (3, 150)
    assert [len(call.requests[0].items) for call in server.calls("EnrollItems")] == [64, 64, 22]
    ids = [item.item_id for call in server.calls("EnrollItems") for item in call.requests[0].items]
    assert ids == [str(i) for i in range(150)]


def test_heavy_items_are_enrolled_in_smaller_calls(server, client):
    client.anomaly.enroll_items("parts", [mekiki.EnrolledItem(str(i), bytes(7_000_000)) for i in range(5)])
    assert [len(call.requests[0].items) for call in server.calls("EnrollItems")] == [2, 2, 1]
    assert client.anomaly.enroll_items("parts", []).enrolled_count == 0


def test_the_threshold_of_a_detector_is_that_of_its_only_category(server, client):
    def describe(thresholds, categories):
        detector = anomaly_pb2.Detector(
            thresholds=[anomaly_pb2.Threshold(value=1, category=name) for name in thresholds],
            categories=[anomaly_pb2.DetectorCategory(name=name, enrolled_count=1) for name in categories],
        )
        server.answers["GetDetector"] = lambda _r, _c: anomaly_pb2.GetDetectorResponse(detector=detector)
        found = client.anomaly.get_detector("parts")
        assert (set(found.thresholds), set(found.categories)) == (set(thresholds), set(categories))
        return found.threshold

    assert describe(["bolt"], ["bolt"]).category == "bolt"
    assert describe([""], [""]).value == 1
    for several in (([], ["bolt"]), (["bolt"], ["bolt", "nut"]), (["bolt"], ["nut"]), (["bolt", "nut"], ["bolt"])):
        assert describe(*several) is None


def test_any_number_of_items_is_forgotten(server, client):
    client.anomaly.forget_items("parts", [str(i) for i in range(2500)])
    assert [len(call.requests[0].item_ids) for call in server.calls("ForgetItems")] == [1000, 1000, 500]


def test_lists_are_read_to_their_end(server, client):
    def list_(request, _context):
        token = int(request.page_token or 0)
        dataset = codec_pb2.Dataset(name=f"set {token}")
        return codec_pb2.ListDatasetsResponse(datasets=[dataset], next_page_token=str(token + 1) if token < 2 else "")

    server.answers["ListDatasets"] = list_
    assert [dataset.name for dataset in client.codec.list_datasets()] == ["set 0", "set 1", "set 2"]


def test_an_update_names_what_it_changes_and_nothing_else(server, client):
    box = mekiki.Box(1, 2, 3, 4)
    client.codec.update_item("screws", "1", split="", annotations=[mekiki.Annotation(box, "nut")], etag="e")
    request = server.calls("UpdateItem")[0].requests[0]
    assert sorted(request.update_mask.paths) == ["annotations", "split"]
    assert (request.item.item_id, request.item.etag, request.item.annotations[0].box.x_max) == ("1", "e", 3)
