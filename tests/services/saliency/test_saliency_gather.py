"""Which items a training reads."""

import asyncio

import numpy as np
import pytest
from fake_codec import DATASET, FakeCodec, FakeItem, open_codec

import mekiki
from mekiki.types.v1 import types_pb2
from services.saliency.gather import gather_items

ITEMS = [FakeItem(f"{n}", np.full((40, 40), 10 * n, np.uint8), "ab"[n % 2]) for n in range(6)]


@pytest.mark.parametrize(
    ("form", "named", "read"),
    [
        (types_pb2.ITEM_FORM_PREPARED, "", "prepared-2"),
        (types_pb2.ITEM_FORM_PREPARED, "prepared-1", "prepared-1"),
        (types_pb2.ITEM_FORM_ORIGINAL, "", ""),
    ],
)
async def test_a_training_stays_with_one_encoding(serve, form, named, read):
    codec = FakeCodec(ITEMS)
    codec.encodings = ["prepared-1", "prepared-2"]
    address = await serve([open_codec(ITEMS, codec)])
    items = types_pb2.ItemFilter(dataset=DATASET, form=form, encoding_id=named)

    def gather():
        with mekiki.Client(address) as client:
            return gather_items(client, items, 32, 100, lambda *_, **__: None)

    gathered = await asyncio.to_thread(gather)
    assert gathered.data.labels == tuple("ab" * 3)
    assert set(codec.asked) == {read}
    assert items.encoding_id == named
