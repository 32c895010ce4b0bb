import asyncio
from types import SimpleNamespace

from services.runtime.errors import InvalidArgument
from services.runtime.streams import answer_frames


def frame(number):
    return SimpleNamespace(id=str(number), request=number)


def answer(id, response=None, error=None):  # noqa: A002
    return SimpleNamespace(id=id, response=response, error=error)


async def frames(count, read=None):
    for number in range(count):
        if read is not None:
            read.append(number)
        yield frame(number)


async def test_answers_come_in_order_however_long_each_takes():
    async def slow_first(number):
        await asyncio.sleep(0.02 if number == 0 else 0)
        return number * 2

    got = [a async for a in answer_frames(frames(20), slow_first, answer, 4)]
    assert [a.id for a in got] == [str(n) for n in range(20)]
    assert [a.response for a in got] == [n * 2 for n in range(20)]


async def test_one_bad_frame_answers_its_own_status_and_the_stream_goes_on():
    async def odd_fails(number):
        if number == 1:
            raise InvalidArgument("image", "is odd")
        if number == 2:
            raise ZeroDivisionError("secret")
        return number

    got = [a async for a in answer_frames(frames(4), odd_fails, answer, 2)]
    assert [a.response for a in got] == [0, None, None, 3]
    assert got[1].error.code == 3
    assert got[1].error.message == "image: is odd"
    assert got[2].error.code == 13
    assert "secret" not in str(got[2].error)


async def test_frames_are_not_read_further_ahead_than_the_window():
    read, running, most = [], 0, 0

    async def one(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    answered = 0
    async for _ in answer_frames(frames(50, read), one, answer, 3):
        answered += 1
        await asyncio.sleep(0.001)
        assert len(read) <= answered + 3
    assert most <= 3


async def test_a_caller_who_leaves_takes_his_work_along():
    started, ended = [], []

    async def one(number):
        started.append(number)
        try:
            await asyncio.sleep(0 if number == 0 else 60)
        finally:
            ended.append(number)

    stream = answer_frames(frames(10), one, answer, 4)
    await anext(stream)
    await asyncio.sleep(0.01)
    await stream.aclose()
    await asyncio.sleep(0.01)
    assert sorted(started) == sorted(ended)


async def test_an_empty_stream_has_no_answers():
    assert [a async for a in answer_frames(frames(0), None, answer, 1)] == []
