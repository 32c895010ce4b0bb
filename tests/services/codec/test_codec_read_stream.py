"""How far ahead of its caller a stream of items reads."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from services.codec.items import Item, Place
from services.codec.read_stream import Parts, _is_enough, read_frames
from services.codec.reading import Read


def make_item(number, side):
    return Item(f"item-{number:02d}", (), "", "", "0" * 64, side, side, 3, 8, (), 0.0, 1, 1, Place("s", number))


@pytest.mark.parametrize(
    ("side", "threads", "ahead"),
    [(10, 8, 9), (10, 1, 3), (10_000, 8, 3), (3_300, 8, 3), (2_600, 8, 4)],  # pixels, cores, items
)
def test_as_many_items_are_read_at_once_as_cores_and_memory_allow(side, threads, ahead):
    sizes = [make_item(0, side).pixel_bytes] * 20
    assert next(count for count in range(20) if _is_enough(sizes[:count], threads)) == ahead


async def test_what_is_read_ahead_comes_in_order_and_once():
    begun = []

    def read(item):
        begun.append(item.item_id)
        time.sleep(0.02 * (item.place.frame % 3 == 0))  # the first are the slowest
        return Read(np.zeros((2, 2), np.uint8), None)

    items = tuple(make_item(number, 10) for number in range(20))
    found = SimpleNamespace(items=items, missing=(), reader=SimpleNamespace(read=read), read_mask=lambda _: None)
    frames = read_frames(found, Parts(True, False, 1 << 20, 4), storage_order=False)
    assert [frame.item.item_id async for frame in frames] == [f"item-{number:02d}" for number in range(20)]
    assert sorted(begun) == [item.item_id for item in items]
