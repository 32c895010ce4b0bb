"""What others write is followed beside the calls, and a store that is away stops nobody."""

import asyncio
import time

import pytest

from services.runtime import follower as follower_module
from services.runtime.errors import Unavailable
from services.runtime.follower import PATIENCE, Follower

EVERY_S = 0.05


class Source:
    """What is read: a number that grows, from a store that may be slow or away."""

    def __init__(self):
        self.written, self.known, self.readings = 1, 0, 0
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()

    async def read(self):
        self.readings += 1
        await self.answering.wait()
        if self.away:
            raise Unavailable("the store cannot be reached just now")
        self.known = self.written


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def follower(source, monkeypatch):
    monkeypatch.setattr(follower_module, "ANSWER_S", 0.1)
    return Follower("numbers", source.read, EVERY_S)


async def test_the_first_call_reads_and_hears_what_is_wrong(source, follower):
    source.away = True
    with pytest.raises(Unavailable):
        await follower.follow()
    source.away = False
    await follower.follow()
    assert source.known == 1


async def test_nothing_is_read_again_before_its_time(source, follower):
    await follower.follow()
    await follower.follow()
    assert source.readings == 1


async def test_in_use_it_is_read_beside_the_calls(source, follower):
    await follower.follow()
    source.written, follower._as_of_s = 2, time.monotonic() - 2 * EVERY_S
    source.answering.clear()
    await follower.follow()  # does not wait
    assert source.known == 1
    source.answering.set()
    await asyncio.sleep(0.01)
    assert source.known == 2


async def test_after_a_silence_a_call_waits_for_what_is_new(source, follower):
    await follower.follow()
    source.written, follower._as_of_s = 2, time.monotonic() - (PATIENCE + 1) * EVERY_S
    await follower.follow()
    assert source.known == 2


@pytest.mark.parametrize("ask", ["follow", "catch_up"])
async def test_a_store_that_is_away_stops_nobody_and_its_return_is_noticed(source, follower, ask):
    await follower.follow()
    source.away, source.written = True, 2
    for _ in range(3):
        follower._as_of_s = follower._begun_s = time.monotonic() - 10
        await getattr(follower, ask)()
    assert source.known == 1
    source.away = False
    follower._begun_s = time.monotonic() - 10
    await follower.follow()
    await asyncio.sleep(0.01)
    assert source.known == 2


@pytest.mark.parametrize("ask", ["follow", "catch_up"])
async def test_a_store_that_hangs_holds_calls_up_once(source, follower, ask):
    await follower.follow()
    source.answering.clear()
    follower._as_of_s = follower._begun_s = time.monotonic() - 10
    await getattr(follower, ask)()
    assert follower._away
    for _ in range(5):
        async with asyncio.timeout(0.05):
            await getattr(follower, ask)()
    assert source.readings <= 3
    source.answering.set()


async def test_a_store_that_is_away_is_not_asked_more_often_than_usual(source, follower):
    await follower.follow()
    source.away = True
    follower._as_of_s = time.monotonic() - 10
    for _ in range(200):
        await follower.follow()
        await asyncio.sleep(0)
    assert source.readings <= 3


async def test_catching_up_sees_what_was_written_before(source, follower):
    await follower.follow()
    source.answering.clear()
    under_way = asyncio.create_task(follower.read())
    await asyncio.sleep(0)
    source.written = 2
    asked = asyncio.create_task(follower.catch_up())
    await asyncio.sleep(0)
    source.answering.set()
    await asyncio.gather(under_way, asked)
    assert source.known == 2


async def test_many_who_ask_together_share_a_reading(source, follower):
    await follower.follow()
    source.answering.clear()
    asked = [asyncio.create_task(follower.read()) for _ in range(20)]
    await asyncio.sleep(0.01)
    source.answering.set()
    await asyncio.gather(*asked)
    assert source.readings <= 3
