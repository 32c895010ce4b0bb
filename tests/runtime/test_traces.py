"""Spans of a real server with a tiny model, as a real collector receives them."""

import asyncio
import contextvars
import io
import json
import re
import time

import grpc
import numpy as np
import pytest
import structlog
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from mekiki.errors import from_status
from services.runtime.config import Settings
from services.runtime.errors import NotFound
from services.runtime.export import PatientExporter
from services.runtime.images import encode_heatmap
from services.runtime.ledger import Ledger
from services.runtime.logs import configure_logs
from services.runtime.status import to_status
from services.runtime.store import Store
from services.runtime.traces import (
    Tracing,
    add_span,
    current_trace_id,
    current_traceparent,
    recorded_place,
    surround_call,
)
from tests.collector import collecting
from tests.runtime.tiny import OPENING

HEAT = encode_heatmap(np.ones((2, 3), np.float32))
FIT = "mekiki.boxfit.v1.BoxfitService/FitBox"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00")


def request(seed=0):
    return boxfit_pb2.FitBoxRequest(heatmap=HEAT, options=boxfit_pb2.FitOptions(seed=seed))


@pytest.fixture
def collector():
    with collecting() as made:
        yield made


@pytest.fixture
async def open_stub(serve):
    channels = []

    async def open_one(**settings):
        channels.append(grpc.aio.insecure_channel(await serve([OPENING], **settings)))
        return boxfit_pb2_grpc.BoxfitServiceStub(channels[-1])

    yield open_one
    for channel in channels:
        await channel.close()


@pytest.fixture
def read_log(monkeypatch):
    """The lines of the log so far."""
    before, log = structlog.get_config(), io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    configure_logs("debug")
    yield lambda: [json.loads(line) for line in log.getvalue().splitlines()]
    structlog.configure(**before)


async def wait_for(collector, name):
    return await asyncio.to_thread(collector.wait_for, name, "", 20)


async def test_a_calls_span_hangs_on_the_callers_and_the_batchers_hang_on_it(open_stub, collector):
    stub = await open_stub(traces_endpoint=collector.endpoint)
    await stub.FitBox(request(seed=30), metadata=(SAMPLED, ("x-request-id", "my-id")))
    call = await wait_for(collector, FIT)
    assert (call.trace_id, call.parent_id, call.service, call.failed) == (TRACE, PARENT, "boxfit", False)
    assert call.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "mekiki.boxfit.v1.BoxfitService",
        "rpc.method": "FitBox",
        "rpc.grpc.status_code": 0,
        "mekiki.request_id": "my-id",
    }
    wait, compute = await wait_for(collector, "wait tiny"), await wait_for(collector, "compute tiny")
    assert {wait.parent_id, compute.parent_id} == {call.span_id}
    assert compute.attributes == {"batch_size": 1}
    assert 0.03 <= compute.seconds <= call.seconds


async def test_a_bug_makes_a_red_span_and_tells_none_of_its_text(open_stub, collector):
    stub = await open_stub(traces_endpoint=collector.endpoint)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.FitBox(request(seed=13))
    call = await wait_for(collector, FIT)
    assert call.failed
    assert call.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INTERNAL.value[0]
    assert "swordfish" not in str(collector.spans())


async def test_a_callers_mistake_is_told_by_the_code_and_not_red(open_stub, collector):
    stub = await open_stub(traces_endpoint=collector.endpoint)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.FitBox(boxfit_pb2.FitBoxRequest())
    call = await wait_for(collector, FIT)
    assert not call.failed
    assert call.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_the_caller_decides_whether_its_trace_is_recorded_and_the_ratio_about_all_others(open_stub, collector):
    all_of_them = await open_stub(traces_endpoint=collector.endpoint, traces_ratio=1)
    await all_of_them.FitBox(request(), metadata=(UNSAMPLED,))
    none_of_them = await open_stub(traces_endpoint=collector.endpoint, traces_ratio=0)
    await none_of_them.FitBox(request())
    await none_of_them.FitBox(request(), metadata=(SAMPLED, ("x-request-id", "wanted")))
    assert (await wait_for(collector, FIT)).attributes["mekiki.request_id"] == "wanted"
    assert {span.parent_id for span in collector.spans() if span.name == FIT} == {PARENT}


async def test_a_stream_has_one_span_however_many_frames(open_stub, collector):
    stub = await open_stub(traces_endpoint=collector.endpoint)
    frames = [boxfit_pb2.FitBoxesRequest(id=str(number), request=request()) for number in range(20)]
    assert len([answer async for answer in stub.FitBoxes(iter(frames), metadata=(SAMPLED,))]) == 20
    stream = await wait_for(collector, "mekiki.boxfit.v1.BoxfitService/FitBoxes")
    assert (stream.trace_id, stream.parent_id) == (TRACE, PARENT)
    await stub.FitBox(request())
    await wait_for(collector, "compute tiny")
    assert len([span for span in collector.spans() if span.trace_id == TRACE]) == 1


async def test_probes_leave_no_spans(serve, collector):
    address = await serve([OPENING], traces_endpoint=collector.endpoint)
    async with grpc.aio.insecure_channel(address) as channel:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await boxfit_pb2_grpc.BoxfitServiceStub(channel).FitBox(request())
    await wait_for(collector, FIT)
    assert not [span for span in collector.spans() if "Health" in span.name]


async def test_lines_of_a_call_carry_the_callers_trace_id_though_nothing_is_exported(read_log, open_stub):
    stub = await open_stub()
    await stub.FitBox(request(), metadata=(SAMPLED, ("x-request-id", "my-id")))
    await stub.FitBox(request(), metadata=(("traceparent", "00-nonsense"),))
    told, strange = [line for line in read_log() if line["event"] == "call"]
    assert (told["trace_id"], told["request_id"]) == (TRACE, "my-id")
    assert re.fullmatch("[0-9a-f]{32}", strange["trace_id"])
    assert strange["trace_id"] != TRACE


async def test_a_collector_that_is_gone_fails_no_call_and_is_mentioned_once(read_log, open_stub):
    with collecting() as gone:
        endpoint = gone.endpoint
    stub = await open_stub(traces_endpoint=endpoint)
    assert (await stub.FitBox(request())).box.x_max == 3
    tracing = Tracing(endpoint)
    for _ in range(1000):
        with tracing.follow("Job", SAMPLED[1], "x"):
            pass
    await asyncio.to_thread(tracing.close)
    assert (await stub.FitBox(request())).box.x_max == 3
    dropped = [line for line in read_log() if "dropped" in line["event"]]
    assert 1 <= len(dropped) <= 2  # the server's, and the other's


class Broken(SpanExporter):
    """Fails as long as `broken`."""

    def __init__(self):
        self.broken, self.tried, self.taken = True, 0, 0

    def export(self, spans):
        self.tried += 1
        if self.broken:
            raise OSError("no route")
        self.taken += len(spans)
        return SpanExportResult.SUCCESS


def test_what_the_collector_does_not_take_is_dropped_with_one_warning(read_log):
    broken = Broken()
    exporter = PatientExporter(broken, "http://collector:4317", pause_s=60)
    assert [exporter.export([object()] * 5) for _ in range(100)] == [SpanExportResult.FAILURE] * 100
    assert broken.tried == 1
    assert [line["event"] for line in read_log() if line["level"] == "warning"] == [
        "spans are dropped: the collector does not take them"
    ]


def test_when_the_collector_is_back_spans_go_out_again(read_log):
    broken = Broken()
    exporter = PatientExporter(broken, "http://collector:4317", pause_s=0)
    exporter.export([object()] * 5)
    broken.broken = False
    assert exporter.export([object()] * 2) is SpanExportResult.SUCCESS
    assert broken.taken == 2
    assert read_log()[-1]["dropped"] == 5


def test_closing_sends_what_waits_and_a_collector_that_is_gone_holds_nobody_up(collector):
    tracing = Tracing(collector.endpoint, 1.0, "codec-job")
    with tracing.follow("EncodeDataset", SAMPLED[1], "codec/operations/x"):
        pass
    tracing.close()
    (span,) = collector.spans()
    assert (span.name, span.service, span.trace_id, span.parent_id) == ("EncodeDataset", "codec-job", TRACE, PARENT)
    assert span.attributes == {"mekiki.operation": "codec/operations/x"}


def test_a_call_next_door_is_a_span_of_its_own_and_its_headers_name_it(collector):
    tracing = Tracing(collector.endpoint, 1.0, "saliency")
    with tracing.follow("TrainClassifier", SAMPLED[1], "saliency/operations/x"):
        with surround_call("p.S/GetItem") as headers:
            pass
        with pytest.raises(Exception, match="screw"), surround_call("p.S/GetItem"):
            raise from_status(to_status(NotFound("item", "screw")))
    tracing.close()
    good, bad, job = collector.spans()
    assert dict(headers)["traceparent"] == f"00-{TRACE}-{good.span_id}-01"
    assert {good.parent_id, bad.parent_id} == {job.span_id}
    assert [span.attributes["rpc.grpc.status_code"] for span in (good, bad)] == [0, 5]
    assert (good.failed, bad.failed) == (False, True)


def test_an_operation_remembers_the_trace_of_its_starter(tmp_path):
    ledger = Ledger("codec", Store.open(f"file://{tmp_path}"))

    def start():
        Tracing().start_call("/p.S/Train", [SAMPLED], frames=False)
        assert current_trace_id() == TRACE
        return ledger.add("Train", Struct())

    operation = contextvars.copy_context().run(start)
    assert ledger.record(operation).traceparent == SAMPLED[1]
    assert current_traceparent() == ""


def test_records_of_before_there_were_traces_are_still_read(tmp_path):
    store = Store.open(f"file://{tmp_path}")
    ledger = Ledger("codec", store)
    operation = ledger.add("Train", Struct())
    key = f"operations/{operation}/record"
    old = json.loads(store.get(key))
    del old["traceparent"]
    store.put(key, json.dumps(old).encode())
    assert ledger.record(operation).traceparent == ""


@pytest.mark.parametrize("endpoint", ["collector:4317", "ftp://collector", "http://collector:4317/v1/traces"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint):
    with pytest.raises(ValueError, match="traces_endpoint"):
        Settings(traces_endpoint=endpoint)


def test_a_span_may_be_put_beneath_a_call_that_is_over(collector):
    """A batch may end after its caller gave up."""
    tracing = Tracing(collector.endpoint, 1.0, "boxfit")
    with tracing.follow("Job", SAMPLED[1], "x"):
        place = recorded_place()
    now_s = time.monotonic()
    add_span(place, "compute", now_s - 2, now_s)
    tracing.close()
    job, late = collector.spans()
    assert (late.parent_id, round(late.seconds, 3)) == (job.span_id, 2)
