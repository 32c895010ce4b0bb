"""Which items a detector is trained on, and with which boxes."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from fake_codec import DATASET, FakeCodec, FakeItem, open_codec

import mekiki
from mekiki import Annotation, AnnotationState, Box
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.saliency.detection.gather import gather_boxed_items

ACCEPTED, PROPOSED, REJECTED = AnnotationState.ACCEPTED, AnnotationState.PROPOSED, AnnotationState.REJECTED
BOX = Box(10, 10, 30, 40)
PIXELS = np.zeros((50, 100, 3), np.uint8)


def mark(state, label="nut", box=BOX):
    return Annotation(box, label, state=state)


def item(name, *marks, pixels=PIXELS):
    return FakeItem(name, pixels, "part", f"day-{name}", marks)


ITEMS = [
    item("accepted", mark(ACCEPTED), mark(PROPOSED, "bolt"), mark(REJECTED, "bolt")),
    item("empty"),
    item("proposed", mark(PROPOSED, "bolt"), mark(PROPOSED, "bolt", Box(40, 0, 100, 50))),
    item("rejected", mark(REJECTED)),
]


async def gather(serve, items=ITEMS, *, include_proposed=False, limit=100, reports=None, codec=None):
    address = await serve([open_codec(items, codec)])
    note = reports.append if reports is not None else lambda _: None

    def work():
        with mekiki.Client(address) as client:
            wanted = types_pb2.ItemFilter(dataset=DATASET, form=types_pb2.ITEM_FORM_PREPARED)
            return gather_boxed_items(
                client,
                wanted,
                64,
                limit,
                lambda *steps, **metrics: note((steps, metrics)),
                include_proposed=include_proposed,
            )

    return await asyncio.to_thread(work)


async def test_only_accepted_boxes_count_and_what_nobody_knows_is_left_out(serve):
    gathered = await gather(serve)
    data = gathered.data
    assert data.groups == ("day-accepted", "day-empty")
    assert data.labels == ("nut",)
    assert [classes.tolist() for classes in data.classes] == [[0], []]
    assert gathered.left_out_count == 2


class WatchedCodec(FakeCodec):
    forms = ()

    async def ReadItems(self, request, context):  # noqa: N802
        self.forms = (*self.forms, request.items.form)
        async for answer in super().ReadItems(request, context):
            yield answer


async def test_pixels_are_the_original_ones_for_that_is_where_boxes_are(serve):
    codec = WatchedCodec(ITEMS)
    await gather(serve, codec=codec)
    assert set(codec.forms) == {types_pb2.ITEM_FORM_ORIGINAL}


async def test_boxes_come_in_pixels_of_the_square(serve):
    data = (await gather(serve)).data
    assert data.boxes[0] == pytest.approx(np.array([[6.4, 6.4, 19.2, 25.6]]))
    assert data.pixels.shape == (2, 64, 64, 3)
    assert data.extents.tolist() == [[64, 32], [64, 32]]


async def test_proposed_boxes_count_when_asked_for_and_rejected_ones_never(serve):
    gathered = await gather(serve, include_proposed=True)
    assert gathered.data.labels == ("bolt", "nut")
    assert [sorted(classes.tolist()) for classes in gathered.data.classes] == [[0, 1], [], [0, 0]]
    assert gathered.left_out_count == 1


async def test_damaged_items_are_left_out_and_counted(serve):
    reports = []
    items = [*ITEMS[:2], replace(ITEMS[0], item_id="torn", pixels=None)]
    gathered = await gather(serve, items, reports=reports)
    assert gathered.damaged == ("torn",)
    assert len(gathered.data) == 2
    assert reports[-1] == (("reading images", 3, 3), {"damaged_items": 1})


async def test_a_box_that_lies_beyond_its_image_is_cut_off_and_one_too_thin_to_see_dropped(serve):
    marks = (mark(ACCEPTED, box=Box(80, 10, 400, 400)), mark(ACCEPTED, box=Box(0, 0, 1, 50)))
    data = (await gather(serve, [item("a", *marks)])).data
    assert data.boxes[0] == pytest.approx(np.array([[51.2, 6.4, 64, 32]]))


@pytest.mark.parametrize(
    ("items", "limit", "words"),
    [
        (ITEMS[1:], 100, "3 items hold none; proposed ones count only with include_proposed"),
        (ITEMS, 1, "MEKIKI_MAX_TRAINING_ITEMS, 1"),
        ([item("x", *(mark(ACCEPTED, f"label-{n}") for n in range(501)))], 100, "at most 500 labels, have 501"),
    ],
)
async def test_what_cannot_be_trained_on_is_refused_before_any_pixel_is_read(serve, items, limit, words):
    with pytest.raises(InvalidArgument, match=words) as refusal:
        await gather(serve, [replace(one, pixels=None) for one in items], limit=limit)
    assert refusal.value.field == "items"


async def test_a_set_that_is_damaged_throughout_is_refused(serve):
    with pytest.raises(InvalidArgument, match="all 1 items are damaged"):
        await gather(serve, [replace(ITEMS[0], pixels=None)])
