import itertools
import threading
from contextlib import aclosing, closing

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2, status_pb2

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from tests.client.fake_server import FAST

IMAGE = np.zeros((4, 4), np.uint8)


def echo(request, _context):
    """The grey value of the first pixel as the score."""
    return anomaly_pb2.ScoreImageResponse(score=request.request.image.tensor.data[0])


def grey(value):
    return np.full((4, 4), value, np.uint8)


def test_answers_come_in_the_order_of_the_images(server, client):
    server.answers["ScoreImages"] = echo
    answers = list(client.anomaly.score_images("parts", (grey(i) for i in range(100)), window=7))
    assert [answer.value.score for answer in answers] == list(range(100))
    assert [answer.id for answer in answers] == [str(i) for i in range(100)]


async def test_the_async_stream_takes_both_kinds_of_iterables(server):
    server.answers["ScoreImages"] = echo

    async def images():
        for i in range(20):
            yield mekiki.Frame(grey(i), f"part {i}")

    async with mekiki.AsyncClient(server.address) as client:
        asynchronous = [answer async for answer in client.anomaly.score_images("parts", images())]
        plain = [answer async for answer in client.anomaly.score_images("parts", [grey(7)])]
    assert [answer.id for answer in asynchronous] == [f"part {i}" for i in range(20)]
    assert plain[0].value.score == 7


def test_an_endless_input_is_pulled_no_further_than_the_window(server, client):
    server.answers["ScoreImages"] = echo
    pulled = itertools.count()
    latest = [0]

    def images():
        while True:
            latest[0] = next(pulled)
            yield IMAGE

    with closing(client.anomaly.score_images("parts", images(), window=5)) as answers:
        for taken in range(1, 50):
            next(answers)
            assert latest[0] < taken + 5
        assert server.calls("ScoreImages")[0].requests
    assert latest[0] < 49 + 5


async def test_an_endless_async_input_is_pulled_no_further_than_the_window(server):
    server.answers["ScoreImages"] = echo
    latest = [0]

    async def images():
        for number in itertools.count():
            latest[0] = number
            yield IMAGE

    async with (
        mekiki.AsyncClient(server.address) as client,
        aclosing(client.anomaly.score_images("parts", images(), window=3)) as answers,
    ):
        for taken in range(1, 40):
            await anext(answers)
            assert latest[0] < taken + 3


def test_the_window_is_used(server, client):
    """With a window of 4, the service gets 4 frames before it has answered one."""
    arrived = threading.Semaphore(0)

    def answer(request, _context):
        return anomaly_pb2.ScoreImageResponse()

    def images():
        for _ in range(4):
            arrived.release()
            yield IMAGE

    server.answers["ScoreImages"] = answer
    answers = client.anomaly.score_images("parts", images(), window=4)
    next(answers)
    for _ in range(4):
        assert arrived.acquire(timeout=60)
    assert len(list(answers)) == 3


def test_one_bad_frame_answers_its_own_error_and_the_stream_goes_on(server, client):
    def answer(request, context):
        if request.id == "1":
            return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="image.encoded: not an image")
        return echo(request, context)

    server.answers["ScoreImages"] = answer
    good, bad, last = client.anomaly.score_images("parts", [grey(3), b"junk", grey(5)])
    assert (good.value.score, last.value.score) == (3, 5)
    assert isinstance(bad.error, mekiki.errors.InvalidArgument)
    assert bad.result is None
    with pytest.raises(mekiki.errors.InvalidArgument, match="not an image"):
        _ = bad.value


def test_an_error_of_the_input_is_raised_after_the_answers_before_it(server, client):
    server.answers["ScoreImages"] = echo

    def images():
        yield grey(1)
        yield grey(2)
        raise OSError("camera unplugged")

    answers = client.anomaly.score_images("parts", images())
    assert [next(answers).value.score for _ in range(2)] == [1, 2]
    with pytest.raises(OSError, match="unplugged"):
        next(answers)


def test_no_image_at_all_is_no_answer_at_all(server, client):
    assert list(client.anomaly.score_images("parts", [])) == []


def test_a_broken_stream_is_resumed_without_losing_or_repeating_an_answer(server, client):
    breaks = iter([3, 11])
    seen = itertools.count()
    at = [next(breaks)]

    def answer(request, context):
        if next(seen) == at[0]:
            at[0] = next(breaks, -1)
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        return echo(request, context)

    server.answers["ScoreImages"] = answer
    answers = list(client.anomaly.score_images("parts", (grey(i) for i in range(30)), window=4))
    assert [answer.value.score for answer in answers] == list(range(30))
    assert len(server.calls("ScoreImages")) == 3


async def test_a_broken_async_stream_is_resumed(server):
    seen = itertools.count()

    def answer(request, context):
        if next(seen) == 5:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        return echo(request, context)

    server.answers["ScoreImages"] = answer
    async with mekiki.AsyncClient(server.address, options=FAST) as client:
        images = (grey(i) for i in range(20))
        scores = [answer.value.score async for answer in client.anomaly.score_images("parts", images, window=4)]
    assert scores == list(range(20))


def test_a_stream_that_the_service_refuses_raises(server, client):
    def answer(_request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "detector 'parts' does not exist")

    server.answers["ScoreImages"] = answer
    with pytest.raises(mekiki.errors.NotFound):
        next(client.anomaly.score_images("parts", [IMAGE]))
    assert len(server.calls("ScoreImages")) == 1


def test_an_abandoned_stream_ends_at_the_service(server, client):
    ended = threading.Event()

    def answer(request, context):
        context.add_callback(ended.set)
        return echo(request, context)

    server.answers["ScoreImages"] = answer
    answers = client.anomaly.score_images("parts", itertools.repeat(IMAGE))
    next(answers)
    answers.close()
    assert ended.wait(60)


def test_a_window_below_one_is_refused(client):
    with pytest.raises(ValueError, match="window must be 1 or more"):
        next(client.anomaly.score_images("parts", [IMAGE], window=0))


async def test_a_stream_that_breaks_in_the_middle_of_a_write_is_resumed(server):
    """Big frames are still being written when the server gives up: grpc.aio then calls it an internal error."""
    seen = itertools.count()

    def answer(request, context):
        if next(seen) % 5 == 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        return echo(request, context)

    server.answers["ScoreImages"] = answer
    async with mekiki.AsyncClient(server.address, options=FAST) as client:
        images = (np.full((1000, 1000), i, np.uint8) for i in range(20))
        scores = [answer.value.score async for answer in client.anomaly.score_images("parts", images)]
    assert scores == list(range(20))
