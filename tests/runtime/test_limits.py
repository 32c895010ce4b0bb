import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mekiki.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc
from services.runtime.errors import Overloaded
from services.runtime.limits import BUCKETS, RateLimits
from tests.runtime.echoes import open_echoes
from tests.runtime.identities import bearer, write_tokens


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


def count(limits, who, tries):
    passed = 0
    for _ in range(tries):
        try:
            limits.take(who)
            passed += 1
        except Overloaded:
            pass
    return passed


def test_a_burst_passes_and_then_so_many_a_second():
    limits = RateLimits(10, burst=5, clock=(clock := Clock()))
    assert count(limits, "a", 20) == 5
    clock.now_s += 0.35
    assert count(limits, "a", 20) == 3
    clock.now_s += 1000
    assert count(limits, "a", 20) == 5


def test_each_caller_has_a_bucket_of_its_own():
    limits = RateLimits(1, burst=2, clock=Clock())
    assert [count(limits, who, 5) for who in "abc"] == [2, 2, 2]


def test_the_error_says_when_the_next_call_will_pass():
    limits = RateLimits(4, burst=1, clock=(clock := Clock()))
    limits.take("a")
    with pytest.raises(Overloaded) as caught:
        limits.take("a")
    assert (caught.value.reason, caught.value.retry_after_s) == ("RATE_LIMITED", 0.25)
    clock.now_s += 0.25
    limits.take("a")


def test_no_rate_is_no_limit():
    assert count(RateLimits(0, burst=1, clock=Clock()), "a", 1000) == 1000


def test_callers_without_number_take_no_memory_without_end():
    limits = RateLimits(1, burst=1, clock=Clock())
    for number in range(BUCKETS + 100):
        limits.take(str(number))
    assert len(limits._buckets) == BUCKETS
    assert count(limits, str(BUCKETS + 99), 1) == 0


async def test_calls_and_frames_count_alike_and_health_does_not(serve, tmp_path):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    tokens = write_tokens(tmp_path / "t", ("a", ["line"]), ("b", ["line"]), ("job", ["line"], None, True))
    address = await serve(open_echoes([]), auth_tokens=tokens, rate_limit_per_s=0.001, rate_limit_burst=5)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = anomaly_pb2_grpc.AnomalyServiceStub(channel)
        frames = [anomaly_pb2.ScoreImagesRequest(id=str(number)) for number in range(4)]
        request = anomaly_pb2.ScoreImageRequest()
        await stub.ScoreImage(request, metadata=bearer("a"))
        answers = [answer async for answer in stub.ScoreImages(iter(frames * 2), metadata=bearer("a"))]
        assert [answer.WhichOneof("result") for answer in answers] == ["response"] * 4 + ["error"] * 4
        assert {answer.error.code for answer in answers[4:]} == {grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ScoreImage(request, metadata=bearer("a"))
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        details = rpc_status.from_call(caught.value).details
        assert details[0].Unpack(info)
        assert details[1].Unpack(retry)
        assert info.reason == "RATE_LIMITED"
        assert retry.retry_delay.ToTimedelta().total_seconds() > 1
        await stub.ScoreImage(request, metadata=bearer("b"))
        for _ in range(20):
            await stub.ScoreImage(request, metadata=bearer("job"))
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=bearer("a"))
