import grpc
import pytest
from google.rpc import code_pb2, status_pb2

import mekiki
from mekiki import errors
from mekiki.codec.v1 import codec_pb2
from services.runtime import errors as runtime
from services.runtime.status import CODES, to_status

SAMPLES = [
    runtime.InvalidArgument("image.encoded", "9 bytes is no PNG, JPEG, WebP, BMP or TIFF"),
    runtime.NotFound("dataset", "screws"),
    runtime.AlreadyExists("dataset", "screws"),
    runtime.FailedPrecondition("WEIGHTS_MISSING", "put the file there"),
    runtime.Conflict("etag is not the latest"),
    runtime.Overloaded("the queue of 64 is full", 0.25),
    runtime.DataLoss("SHA-256 differs"),
    runtime.Cancelled("the caller gave up"),
    runtime.DeadlineExceeded("2 s passed"),
    runtime.Unavailable("the store is away"),
    runtime.Unauthenticated("TOKEN_EXPIRED", "the token has expired"),
    runtime.PermissionDenied("ROLE", "DeleteDataset needs the role admin"),
    runtime.Overloaded("more than 5 calls a second", 0.5, reason="RATE_LIMITED"),
]


def test_every_error_of_the_runtime_is_sampled_here():
    assert {type(sample) for sample in SAMPLES} == set(CODES) == set(runtime.MekikiError.__subclasses__())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{type(sample).__name__}-{sample.reason}")
def test_the_table_is_the_inverse_of_the_runtimes(sample):
    error = errors.from_status(to_status(sample))
    assert type(error).__name__ == type(sample).__name__
    assert isinstance(error, mekiki.MekikiError)
    assert (error.message, error.reason) == (sample.message, sample.reason)
    assert error.field == getattr(sample, "field", "")
    assert error.retry_after_s == getattr(sample, "retry_after_s", None)
    named = {key: getattr(sample, key) for key in ("kind", "name") if hasattr(sample, key)}
    assert dict(error.metadata) == named


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_service_passes_a_neighbours_error_on_unchanged(sample):
    status = to_status(sample)
    assert to_status(errors.from_status(status)) == status


def test_a_bug_of_the_runtime_is_internal_without_its_text():
    error = errors.from_status(to_status(RuntimeError("secret")))
    assert type(error) is errors.Internal
    assert "secret" not in error.message


def test_every_code_that_is_an_error_has_a_class():
    codes = {code.value[0] for code in grpc.StatusCode} - {code_pb2.OK}
    assert codes == set(errors.CLASS_OF_CODE)


def test_the_tree_at_the_head_of_the_file_is_the_tree():
    classes = {cls.__name__ for cls in errors.MekikiError.__subclasses__()}
    drawn = {line.split()[1] for line in errors.__doc__.splitlines() if line[:1] in "├└" and line[:1]}
    assert classes == drawn == {cls.__name__ for cls in errors.CLASS_OF_CODE.values()}


def test_the_details_of_a_failed_call_reach_the_caller(server, client):
    def refuse(_request, context):
        status = to_status(SAMPLES[0])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, status.message)

    server.answers["GetDataset"] = refuse
    with pytest.raises(errors.InvalidArgument, match="9 bytes") as caught:
        client.codec.get_dataset("screws")
    assert caught.value.field == "image.encoded"
    assert caught.value.reason == "INVALID_ARGUMENT"
    assert caught.value.request_id == server.calls("GetDataset")[0].metadata["x-request-id"]


@pytest.mark.parametrize("details", [b"\xff\xff garbage", status_pb2.Status(code=5).SerializeToString()])
def test_details_that_make_no_sense_are_left_aside(server, client, details):
    def refuse(_request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "plain")

    server.answers["GetDataset"] = refuse
    with pytest.raises(errors.InvalidArgument, match="plain"):
        client.codec.get_dataset("screws")


def test_a_call_that_a_server_drops_as_it_stops_is_unavailable_and_not_cancelled(server, client):
    """So that it is tried again where that is safe."""
    dropped = []

    def drop(_request, context):
        dropped.append(1)
        if len(dropped) < 3:
            context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        return codec_pb2.GetDatasetResponse()

    server.answers["GetDataset"] = server.answers["DeleteDataset"] = drop
    client.codec.get_dataset("screws")
    assert len(dropped) == 3
    dropped.clear()
    with pytest.raises(errors.Unavailable, match="stopped"):
        client.codec.delete_dataset("screws")
    assert len(dropped) == 1


def test_nobody_at_the_address_is_unavailable():
    options = mekiki.ClientOptions(retry=mekiki.RetryPolicy(attempts=1))
    with mekiki.Client("127.0.0.1:1", options=options) as client, pytest.raises(errors.Unavailable):
        client.codec.get_dataset("screws")
