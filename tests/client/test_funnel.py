import contextlib
import dataclasses
import itertools
import socket
import threading
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

import mekiki
from mekiki import errors
from mekiki._wire.policy import VERBS, RetryPolicy, verb_of
from mekiki.codec.v1 import codec_pb2
from tests.client.fake_server import FAST, SERVICES, FakeServer

DATASET = codec_pb2.GetDatasetResponse(dataset=codec_pb2.Dataset(name="screws", item_count=3))


def fail_first(times, code, retry_after_s=None):
    """Answers an error so many times, then a data set."""
    seen = itertools.count()

    def answer(_request, context):
        if next(seen) < times:
            if retry_after_s is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", retry_status(code, retry_after_s)),))
            context.abort(code, "not now")
        return DATASET

    return answer


def retry_status(code, retry_after_s):
    delay = Duration()
    delay.FromNanoseconds(int(retry_after_s * 1e9))
    status = status_pb2.Status(code=code.value[0], message="not now")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status.SerializeToString()


def test_unavailable_is_tried_again(server, client):
    server.answers["GetDataset"] = fail_first(3, grpc.StatusCode.UNAVAILABLE)
    assert client.codec.get_dataset("screws").item_count == 3
    assert len(server.calls("GetDataset")) == 4


async def test_unavailable_is_tried_again_by_the_async_client(server):
    server.answers["GetDataset"] = fail_first(3, grpc.StatusCode.UNAVAILABLE)
    async with mekiki.AsyncClient(server.address, options=FAST) as client:
        assert (await client.codec.get_dataset("screws")).item_count == 3
    assert len(server.calls("GetDataset")) == 4


def test_attempts_come_to_an_end(server, client):
    server.answers["GetDataset"] = fail_first(100, grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(errors.Unavailable):
        client.codec.get_dataset("screws")
    assert len(server.calls("GetDataset")) == FAST.retry.attempts


OTHERS = [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)]


@pytest.mark.parametrize("code", OTHERS, ids=lambda code: code.name)
def test_nothing_else_is_tried_again(server, client, code):
    server.answers["GetDataset"] = fail_first(1, code)
    with pytest.raises(errors.MekikiError) as caught:
        client.codec.get_dataset("screws")
    assert type(caught.value) is errors.CLASS_OF_CODE[code.value[0]]
    assert len(server.calls("GetDataset")) == 1


def test_a_full_queue_that_says_when_to_come_back_is_tried_again(server, client):
    server.answers["GetDataset"] = fail_first(2, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=0.01)
    assert client.codec.get_dataset("screws").name == "screws"
    assert len(server.calls("GetDataset")) == 3


def test_the_service_is_not_asked_again_before_it_said_so():
    error = errors.Overloaded("full", retry_after_s=1.5)
    policy = RetryPolicy(draw=lambda: 0.0)
    assert policy.wait_s(error, 1, repeatable=True) >= 1.5
    assert policy.wait_s(errors.Overloaded("full"), 1, repeatable=True) is None


def test_waits_grow_are_drawn_and_stay_bounded():
    shortest = RetryPolicy(attempts=100, draw=lambda: 0.0)
    longest = RetryPolicy(attempts=100, draw=lambda: 1.0)
    error = errors.Unavailable("away")
    waits = [
        (shortest.wait_s(error, n, repeatable=True), longest.wait_s(error, n, repeatable=True)) for n in range(1, 50)
    ]
    assert all(0 < low < high <= 5.0 for low, high in waits)
    assert [high for _, high in waits[:4]] == pytest.approx([0.1, 0.2, 0.4, 0.8])


def test_no_wait_goes_beyond_the_deadline(server):
    """The error that was there is raised at once, not a deadline error later."""
    server.answers["GetDataset"] = fail_first(9, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=3600)
    with mekiki.Client(server.address) as client, pytest.raises(errors.Overloaded) as caught:
        client.codec.get_dataset("screws", timeout_s=5)
    assert caught.value.retry_after_s == 3600
    assert len(server.calls("GetDataset")) == 1


@pytest.mark.parametrize("start", ["create_dataset", "delete_dataset", "encode_dataset"])
def test_what_may_have_been_done_is_not_done_twice(server, client, start):
    rpc = "".join(word.title() for word in start.split("_"))
    server.answers[rpc] = fail_first(1, grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(errors.Unavailable):
        getattr(client.codec, start)("screws")
    assert len(server.calls(rpc)) == 1


def test_what_was_never_sent_is_sent_later_whatever_it_is():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = mekiki.ClientOptions(retry=RetryPolicy(initial_s=0.2, longest_s=0.2, attempts=50))
    with mekiki.Client(f"127.0.0.1:{port}", options=options) as client:
        replacement = []

        def start():
            again = FakeServer(port)
            again.server.start()
            replacement.append(again)

        timer = threading.Timer(0.3, start)
        timer.start()
        client.codec.create_dataset("screws")
        assert [len(again.calls("CreateDataset")) for again in replacement] == [1]
        replacement[0].server.stop(None).wait()
        timer.join()


def test_every_call_has_a_deadline_and_an_id(server, client):
    client.codec.get_dataset("a")
    client.codec.create_dataset("a")
    client.codec.encode_dataset("a")
    list(client.codec.read_items("a"))
    list(client.codec.append_items("a", [mekiki.NewItem("1", b"png")]))
    list(client.anomaly.score_images("a", [b"png"]))
    client.operations.list_operations()
    client.check_service("codec")
    assert len(server.asked) == 11
    for asked in server.asked:
        assert asked.remaining_s is not None, asked.rpc
        assert 0 < asked.remaining_s <= 25 * 3600  # the wire rounds a day up
        assert len(asked.metadata["x-request-id"]) == 32
    assert len({asked.metadata["x-request-id"] for asked in server.asked}) == len(server.asked)


def test_all_attempts_of_a_call_share_its_id_and_its_deadline(server):
    server.answers["GetDataset"] = fail_first(3, grpc.StatusCode.UNAVAILABLE)
    options = mekiki.ClientOptions(retry=RetryPolicy(initial_s=0.2, factor=1))
    with mekiki.Client(server.address, options=options) as client:
        client.codec.get_dataset("screws", timeout_s=9)
    calls = server.calls("GetDataset")
    assert len({call.metadata["x-request-id"] for call in calls}) == 1
    assert calls[-1].remaining_s < calls[0].remaining_s - 0.2  # three waits of at least 0.1 s


def test_the_callers_deadline_counts(server, client):
    server.answers["GetDataset"] = lambda _request, _context: time.sleep(1) or DATASET
    with pytest.raises(errors.DeadlineExceeded):
        client.codec.get_dataset("screws", timeout_s=0.05)


def test_a_service_hands_its_callers_id_and_credentials_on(server):
    options = mekiki.ClientOptions(request_id=lambda: "id-of-my-caller", metadata=(("authorization", "Bearer x"),))
    with mekiki.Client(server.address, options=options) as client:
        client.codec.get_dataset("screws")
    metadata = server.calls("GetDataset")[0].metadata
    assert (metadata["x-request-id"], metadata["authorization"]) == ("id-of-my-caller", "Bearer x")


class Surroundings:
    """Remembers what it was put around and how that ended; each call gets a number of its own to send along."""

    def __init__(self):
        self.ended = []

    @contextlib.contextmanager
    def __call__(self, rpc):
        try:
            yield (("x-number", str(len(self.ended))),)
        except errors.MekikiError as error:
            self.ended.append((rpc, type(error)))
            raise
        self.ended.append((rpc, None))


def test_what_surrounds_a_call_sees_it_with_all_its_attempts(server):
    server.answers["GetDataset"] = fail_first(2, grpc.StatusCode.UNAVAILABLE)
    surroundings = Surroundings()
    with mekiki.Client(server.address, options=dataclasses.replace(FAST, around=surroundings)) as client:
        client.codec.get_dataset("screws")
        assert list(client.codec.read_items("screws")) == []
        server.answers["GetDataset"] = fail_first(9, grpc.StatusCode.NOT_FOUND)
        with pytest.raises(errors.NotFound):
            client.codec.get_dataset("screws")
        client.check_service("codec")
    service = "mekiki.codec.v1.CodecService"
    assert surroundings.ended[:3] == [
        (f"{service}/GetDataset", None),
        (f"{service}/ReadItems", None),
        (f"{service}/GetDataset", errors.NotFound),
    ]
    assert [asked.metadata["x-number"] for asked in server.asked] == ["0", "0", "0", "1", "2", "3"]


async def test_it_surrounds_the_calls_of_the_async_client_too(server):
    surroundings = Surroundings()
    async with mekiki.AsyncClient(server.address, options=dataclasses.replace(FAST, around=surroundings)) as client:
        await client.codec.get_dataset("screws")
        assert [read async for read in client.codec.read_items("screws")] == []
    assert [rpc.split("/")[1] for rpc, _ in surroundings.ended] == ["GetDataset", "ReadItems"]


def test_every_verb_of_the_contract_has_a_deadline_of_its_own():
    for service in SERVICES.values():
        for method in service.methods:
            if method.output_type.full_name != "google.longrunning.Operation":
                assert verb_of(method.name) in VERBS.values(), method.name


def read_and_break(pieces):
    """Answers all items, always from the first; attempt number n breaks after `pieces[n]` of them."""
    attempts = iter(pieces)

    def read(_request, context):
        for number in range(next(attempts, 9)):
            yield codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=str(number)))
        if number < 8:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    return read


NEWEST = mekiki.ItemFilter("screws", form=mekiki.ItemForm.PREPARED)
NAMED = mekiki.ItemFilter("screws", form=mekiki.ItemForm.PREPARED, encoding_id="prepared-1")


@pytest.mark.parametrize("wanted", ["screws", NAMED], ids=["original", "of one encoding"])
def test_a_broken_read_goes_on_without_losing_or_repeating_an_item(server, client, wanted):
    server.answers["ReadItems"] = read_and_break([3, 1, 3, 7])
    assert [read.item.item_id for read in client.codec.read_items(wanted)] == list("012345678")
    assert len(server.calls("ReadItems")) == 5


async def test_a_broken_async_read_goes_on(server):
    server.answers["ReadItems"] = read_and_break([4, 4])
    async with mekiki.AsyncClient(server.address, options=FAST) as client:
        assert [read.item.item_id async for read in client.codec.read_items("screws")] == list("012345678")


def test_a_read_that_comes_no_further_is_given_up(server, client):
    server.answers["ReadItems"] = read_and_break([3] * 100)
    items = client.codec.read_items("screws")
    assert [next(items).item.item_id for _ in range(3)] == list("012")
    with pytest.raises(errors.Unavailable, match="gone"):
        next(items)
    assert len(server.calls("ReadItems")) == FAST.retry.attempts


def test_two_encodings_are_never_mixed_in_one_read(server, client):
    """Whoever asks for the newest encoding gets one: it may be another one after the break."""
    server.answers["ReadItems"] = read_and_break([3])
    items = client.codec.read_items(NEWEST)
    assert [next(items).item.item_id for _ in range(3)] == list("012")
    with pytest.raises(errors.Unavailable, match="gone"):
        next(items)
    assert len(server.calls("ReadItems")) == 1


def test_a_read_that_never_began_is_begun_again_whatever_it_reads(server, client):
    attempts = itertools.count()

    def read(_request, context):
        if next(attempts) == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        yield codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id="1"))

    server.answers["ReadItems"] = read
    assert [read.item.item_id for read in client.codec.read_items(NEWEST)] == ["1"]


def test_items_are_read_as_they_are_asked_for(server, client):
    ended = threading.Event()

    def read(_request, context):
        context.add_callback(ended.set)
        for number in itertools.count():
            yield codec_pb2.ReadItemsResponse(item=codec_pb2.Item(item_id=str(number)))

    server.answers["ReadItems"] = read
    items = client.codec.read_items("screws", metadata_only=True)
    assert [next(items).item.item_id for _ in range(3)] == ["0", "1", "2"]
    items.close()
    assert ended.wait(60)


def test_a_service_may_live_at_an_address_of_its_own(server):
    with mekiki.Client("127.0.0.1:1", addresses={"codec": server.address}) as client:
        client.codec.get_dataset("screws")
    with pytest.raises(ValueError, match="addresses may name"):
        mekiki.Client(addresses={"codecs": server.address})


def test_a_service_says_whether_it_serves_and_its_version(server, client):
    from grpc_health.v1 import health_pb2

    server.answers["Check"] = lambda _request, _context: health_pb2.HealthCheckResponse(status="SERVING")
    status = client.check_service("codec")
    assert status.is_serving
    assert (status.state, status.version) == ("serving", "9.9.9")
    server.answers["Check"] = lambda _request, context: context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    assert client.check_service("codec").state == "absent"
    with mekiki.Client("127.0.0.1:1", options=FAST) as nobody:
        assert nobody.check_service("codec").state == "unreachable"


def test_more_than_the_default_4_mb_go_through(server, client):
    import numpy as np

    server.answers["PrepareImage"] = lambda request, _context: codec_pb2.PrepareImageResponse(image=request.image)
    sent = np.arange(2448 * 2048 * 3, dtype=np.uint32).astype(np.uint8).reshape(2448, 2048, 3)
    assert np.array_equal(client.codec.prepare_image("screws", sent).pixels, sent)


def test_codes_are_numbers_on_both_sides():
    assert grpc.StatusCode.UNAVAILABLE.value[0] == code_pb2.UNAVAILABLE
