"""The SDK's data sets for PyTorch, against the codec itself."""

import asyncio
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import mekiki
from mekiki.torch import ItemDataset, ItemStream, to_tensor

COUNT = 11


@pytest.fixture
async def address(serve):
    from services.codec.__main__ import OPENING

    address = await serve([OPENING])
    async with mekiki.AsyncClient(address) as client:
        await client.codec.create_dataset("parts")
        items = [
            mekiki.NewItem(f"part-{n:02d}", np.full((20, 24), 10 * n, np.uint8), labels=["odd" if n % 2 else "even"])
            for n in range(COUNT)
        ]
        assert [answer.error async for answer in client.codec.append_items("parts", items)] == [None] * COUNT
    return address


async def collect(make):
    return await asyncio.to_thread(lambda: list(make()))


async def test_a_batch_holds_the_images_targets_and_names_that_were_drawn(address):
    parts = await asyncio.to_thread(ItemDataset, address, "parts")
    assert (len(parts), parts.classes) == (COUNT, ["even", "odd"])
    order = torch.Generator().manual_seed(3)
    batches = await collect(lambda: DataLoader(parts, batch_size=4, shuffle=True, generator=order))
    images = torch.cat([batch.image for batch in batches])
    names = [name for batch in batches for name in batch.item_id]
    targets = torch.cat([batch.target for batch in batches])
    assert images.shape == (COUNT, 1, 20, 24)
    assert sorted(names) == [f"part-{n:02d}" for n in range(COUNT)] != names
    for image, target, name in zip(images, targets, names, strict=True):
        number = int(name[-2:])
        assert torch.allclose(image, torch.full_like(image, 10 * number / 255))
        assert target == number % 2


async def test_an_item_may_be_drawn_twice_in_a_batch(address):
    parts = await asyncio.to_thread(ItemDataset, address, mekiki.ItemFilter("parts", labels=["odd"]))
    drawn = await asyncio.to_thread(parts.__getitems__, [2, 0, 2])
    assert [sample.item_id for sample in drawn] == ["part-05", "part-01", "part-05"]


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_stream_gives_every_item_once_however_many_workers_read(address, workers):
    stream = await asyncio.to_thread(ItemStream, address, "parts", shuffle=4, seed=1)
    context = "spawn" if workers else None
    loader = DataLoader(stream, batch_size=3, num_workers=workers, multiprocessing_context=context)
    names = [name for batch in await collect(lambda: loader) for name in batch.item_id]
    assert sorted(names) == [f"part-{n:02d}" for n in range(COUNT)] != names


async def test_every_pass_is_drawn_anew_and_the_same_from_the_same_seed(address):
    def passes():
        stream = ItemStream(address, "parts", lambda read: read.item.item_id, shuffle=5, seed=7)
        return [list(stream), list(stream)]

    one, other = await asyncio.to_thread(passes), await asyncio.to_thread(passes)
    assert one == other
    assert one[0] != one[1]


async def test_it_travels_to_another_process_without_its_connection(address):
    def travel():
        parts = ItemDataset(address, "parts")
        parts[0]
        return pickle.loads(pickle.dumps(parts))[3].item_id

    assert await asyncio.to_thread(travel) == "part-03"


async def test_without_the_data_set_it_says_so(address):
    with pytest.raises(mekiki.errors.NotFound, match="'screws'"):
        await asyncio.to_thread(ItemDataset, address, "screws")
    with pytest.raises(ValueError, match="shuffle must be at least 1, is 0"):
        await asyncio.to_thread(lambda: ItemStream(address, "parts", shuffle=0))


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, (5, 6)), (np.uint16, (5, 6, 3)), (np.uint8, (5, 6, 4))])
def test_tensors_are_channels_first_from_0_to_1(dtype, shape):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    tensor = to_tensor(pixels)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (1 if len(shape) == 2 else shape[2], 5, 6)
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    assert tensor[0, 4, 2] == pytest.approx(grey[4, 2] / np.iinfo(dtype).max)
