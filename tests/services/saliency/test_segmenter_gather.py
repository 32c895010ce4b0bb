"""Which items a segmenter is trained on, what each shows, and whose masks count."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from fake_codec import DATASET, FakeCodec, FakeItem, open_codec

import mekiki
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.saliency.segmentation.gather import gather_labelled_items
from services.saliency.segmentation.labelled import UNKNOWN

PIXELS = np.zeros((50, 100, 3), np.uint8)
MASK = np.zeros((50, 100), np.bool_)
MASK[:25, :50] = True


def item(name, *labels, mask=None, pixels=PIXELS):
    return FakeItem(name, pixels, group=f"day-{name}", labels=labels, mask=mask)


ITEMS = [
    item("crack", "crack", mask=MASK),
    item("both", "dent", "crack", mask=MASK),
    item("good", "good"),
    item("mixed", "good", "dent", mask=MASK),
    item("none"),
    item("fine", "good", mask=np.zeros((50, 100), np.bool_)),
    item("empty", "crack", mask=np.zeros((50, 100), np.bool_)),
]


async def gather(serve, items=ITEMS, *, normal_labels=("good",), use_masks=True, limit=100, reports=None, codec=None):
    address = await serve([open_codec(items, codec)])
    note = reports.append if reports is not None else lambda _: None

    def work():
        with mekiki.Client(address) as client:
            return gather_labelled_items(
                client,
                types_pb2.ItemFilter(dataset=DATASET, form=types_pb2.ITEM_FORM_PREPARED),
                64,
                limit,
                lambda *steps, **metrics: note((steps, metrics)),
                normal_labels=normal_labels,
                use_masks=use_masks,
            )

    return await asyncio.to_thread(work)


async def test_all_labels_but_the_normal_ones_are_what_an_item_shows(serve):
    gathered = await gather(serve)
    data = gathered.data
    assert data.labels == ("crack", "dent")
    assert data.present.tolist() == [[1, 0], [1, 1], [0, 0], [0, 1], [0, 0], [1, 0]]
    assert data.mains.tolist() == [0, 1, -1, 1, -1, 0]
    assert data.groups == ("day-crack", "day-both", "day-good", "day-mixed", "day-fine", "day-empty")
    assert data.pictures.shape == (6, 64, 64, 3)
    assert (gathered.left_out_count, gathered.damaged) == (1, ())


async def test_a_mask_tells_where_the_first_label_is_and_that_nothing_else_is_there_only_where_it_is_alone(serve):
    masks = (await gather(serve)).data.masks
    assert sorted(masks) == [0, 1]
    assert (masks[0][:32, :32] == 1).all()
    assert (masks[0][32:] == 0).all()
    assert (masks[1][:32, :32] == 2).all()
    assert (masks[1][32:] == UNKNOWN).all()


async def test_a_trimap_tells_only_what_it_knows_and_a_thin_stroke_does_not_vanish(serve):
    trimap = np.full((500, 1000), 128, np.uint8)
    trimap[100, 50:200] = 255  # an eighth of a cell
    trimap[400:] = 0
    large = np.zeros((500, 1000, 3), np.uint8)
    items = [replace(each, pixels=large, mask=None, trimap=trimap) for each in ITEMS]
    data = (await gather(serve, items)).data
    assert data.masks == {}
    assert sorted(data.trimaps) == [0, 1, 5]
    for number, label in ((0, 1), (1, 2)):
        drawn = np.full((64, 64), UNKNOWN, np.uint8)
        drawn[12, 3:13], drawn[51:] = label, 0
        assert (data.trimaps[number] == drawn).all()


async def test_masks_are_left_alone_unless_asked_for(serve):
    assert (await gather(serve, use_masks=False)).data.masks == {}


class WatchedCodec(FakeCodec):
    forms = ()

    async def ReadItems(self, request, context):  # noqa: N802
        self.forms = (*self.forms, (request.items.form, request.with_masks))
        async for answer in super().ReadItems(request, context):
            yield answer


async def test_pixels_are_the_original_ones_for_that_is_where_masks_are(serve):
    codec = WatchedCodec(ITEMS)
    await gather(serve, codec=codec)
    assert codec.forms == ((types_pb2.ITEM_FORM_ORIGINAL, False), (types_pb2.ITEM_FORM_ORIGINAL, True))


async def test_damaged_items_are_left_out_and_counted(serve):
    reports = []
    gathered = await gather(serve, [*ITEMS, replace(ITEMS[0], item_id="torn", pixels=None)], reports=reports)
    assert (gathered.damaged, gathered.left_out_count, len(gathered.data.groups)) == (("torn",), 2, 6)
    assert reports[-1] == (("reading images", 7, 7), {"damaged_items": 1})


@pytest.mark.parametrize(
    ("items", "limit", "field", "words"),
    [
        (ITEMS, 2, "items", "MEKIKI_MAX_TRAINING_ITEMS, 2"),
        (ITEMS[2:3] * 2, 100, "items", "found normal ones"),
        ([ITEMS[4]], 100, "normal_labels", "none has 'good'"),
        (ITEMS[:3] + ITEMS[2:3], 100, "items", "there is one with first label 'crack'"),
        ([ITEMS[0], replace(ITEMS[0], item_id="2"), ITEMS[2]], 100, "items", "one with normal labels alone"),
        ([item("x", "good", *(f"label-{n}" for n in range(101)))], 100, "items", "at most 100 labels .* have 101"),
    ],
)
async def test_what_cannot_be_trained_on_is_refused_before_any_pixel_is_read(serve, items, limit, field, words):
    unreadable = [replace(one, item_id=f"{number}", pixels=None) for number, one in enumerate(items)]
    with pytest.raises(InvalidArgument, match=words) as refusal:
        await gather(serve, unreadable, limit=limit)
    assert refusal.value.field == field


async def test_one_label_without_normal_items_is_refused(serve):
    with pytest.raises(InvalidArgument, match="found 'crack'"):
        await gather(serve, [item("1", "crack"), item("2", "crack")], normal_labels=())


async def test_a_set_that_is_damaged_throughout_is_refused(serve):
    broken = [replace(one, pixels=None) for one in ITEMS]
    with pytest.raises(InvalidArgument, match="all 6 items are damaged"):
        await gather(serve, broken)
