import asyncio

import grpc

from mekiki.anomaly.v1 import anomaly_pb2
from services.runtime.errors import PermissionDenied
from services.runtime.frames import FrameGate


def refuse_odd(frame):
    if int(frame.id) % 2:
        raise PermissionDenied("TENANT", "not yours")


async def number_frames(count):
    for number in range(count):
        yield anomaly_pb2.ScoreImagesRequest(id=str(number))


def open_gate(count, made):
    """A gate that lets even frames pass, and the answers of a servicer that notes what it made."""
    gate = FrameGate(number_frames(count), refuse_odd, anomaly_pb2.ScoreImagesResponse)

    async def answer():
        async for frame in gate.passed():
            made.append(frame.id)
            yield anomaly_pb2.ScoreImagesResponse(id=frame.id)

    return gate.answers(answer())


async def test_every_frame_has_its_answer_in_order():
    made = []
    answers = [answer async for answer in open_gate(500, made)]
    assert [answer.id for answer in answers] == [str(number) for number in range(500)]
    assert made == [str(number) for number in range(0, 500, 2)]
    denied = grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert {answer.error.code for answer in answers[1::2]} == {denied}
    assert {answer.WhichOneof("result") for answer in answers[::2]} == {None}


async def test_whoever_reads_slowly_does_not_make_answers_pile_up():
    made = []
    answers = open_gate(500, made)
    for number in range(100):
        assert (await anext(answers)).id == str(number)
        await asyncio.sleep(0.001)
    assert len(made) <= 52
    await answers.aclose()


async def test_whoever_goes_away_leaves_no_task_behind():
    before = asyncio.all_tasks()
    answers = open_gate(500, [])
    await anext(answers)
    await answers.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
