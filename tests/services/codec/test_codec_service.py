import asyncio

import cv2
import grpc
import numpy as np
import pytest
from codec_parts import PAPER, draw_parts

import mekiki
from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.runtime.images import encode_mask, encode_tensor
from services.runtime.store import Store
from tests.conftest import ROOT


@pytest.fixture
async def address(serve, monkeypatch):
    from services.codec.__main__ import OPENING

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    return await serve([OPENING], u2net_home="/nowhere", segment_wait_ms=20)


@pytest.fixture
async def stub(address):
    async with grpc.aio.insecure_channel(address) as channel:
        yield codec_pb2_grpc.CodecServiceStub(channel)


@pytest.fixture
async def client(address):
    async with mekiki.AsyncClient(address) as client:
        yield client


@pytest.fixture
async def parts(client):
    """A data set of nine parts and a stranger."""
    pictures = draw_parts(9)
    stranger = np.full((200, 200), PAPER, np.uint8)
    stranger[80:120, 80:120] = 40
    await client.codec.create_dataset("parts")
    items = [
        mekiki.NewItem(f"part-{n}", picture, labels=["good" if n else "odd"], split="train" if n < 6 else "test")
        for n, picture in enumerate([*pictures, stranger])
    ]
    answers = [answer.value async for answer in client.codec.append_items("parts", items)]
    assert len(answers) == 10
    return pictures


def frame(tag, item_id, image, dataset="parts", **fields):
    return codec_pb2.AppendItemsRequest(
        id=tag, dataset=dataset, item=codec_pb2.NewItem(item_id=item_id, image=image, **fields)
    )


def grey(seed=0, shape=(24, 32)):
    return encode_tensor(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


async def read(stub, **conditions):
    request = codec_pb2.ReadItemsRequest(items=types_pb2.ItemFilter(dataset="parts", **conditions))
    return [response async for response in stub.ReadItems(request)]


async def code_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details()


async def test_a_data_set_is_created_described_listed_and_deleted(client):
    created = await client.codec.create_dataset("parts")
    assert (created.name, created.item_count) == ("parts", 0)
    with pytest.raises(mekiki.errors.AlreadyExists):
        await client.codec.create_dataset("parts")
    assert [dataset.name for dataset in await client.codec.list_datasets()] == ["parts"]
    await client.codec.delete_dataset("parts")
    assert await client.codec.list_datasets() == ()
    with pytest.raises(mekiki.errors.NotFound):
        await client.codec.get_dataset("parts")


async def test_lists_come_in_pages(stub):
    for name in "cab":
        await stub.CreateDataset(codec_pb2.CreateDatasetRequest(dataset=name))
    first = await stub.ListDatasets(codec_pb2.ListDatasetsRequest(page_size=2))
    second = await stub.ListDatasets(codec_pb2.ListDatasetsRequest(page_token=first.next_page_token))
    assert [dataset.name for dataset in (*first.datasets, *second.datasets)] == ["a", "b", "c"]
    assert second.next_page_token == ""


@pytest.mark.parametrize("name", ["", "-a", "a/b", "..", "a" * 64, "ä"])
async def test_a_bad_name_is_refused(stub, name):
    code, details = await code_of(stub.CreateDataset(codec_pb2.CreateDatasetRequest(dataset=name)))
    assert code == "INVALID_ARGUMENT"
    assert repr(name) in details


async def test_what_was_appended_is_read_back_exactly_in_the_order_of_identifiers(client, parts):
    read_back = [item async for item in client.codec.read_items("parts")]
    assert [item.item.item_id for item in read_back] == sorted(f"part-{n}" for n in range(10))
    for item, picture in zip(read_back, parts, strict=False):
        assert np.array_equal(item.pixels, picture)


async def test_items_come_as_they_are_stored_where_that_is_asked_for(client, parts):
    await (await client.codec.compact_dataset("parts")).result(60)
    wanted = mekiki.ItemFilter("parts", item_ids=[*(f"part-{n}" for n in range(10)), "nobody"])
    read = [item async for item in client.codec.read_items(wanted, storage_order=True)]
    names = [one.item.item_id for one in read]
    assert sorted(names) == ["nobody", *(f"part-{n}" for n in range(10))] != names
    assert [isinstance(one.error, mekiki.errors.NotFound) for one in read] == [name == "nobody" for name in names]
    by_name = {one.item.item_id: one.pixels async for one in client.codec.read_items("parts")}
    assert all(np.array_equal(one.pixels, by_name[one.item.item_id]) for one in read[:-1])
    listed = client.codec.read_items(wanted, metadata_only=True, storage_order=True)
    assert [one.item.item_id async for one in listed] == names


async def test_conditions_must_all_hold(stub, parts):
    async def names(**conditions):
        return [response.item.item_id for response in await read(stub, **conditions)]

    assert await names(labels=["odd"]) == ["part-0"]
    assert await names(splits=["test"]) == [f"part-{n}" for n in (6, 7, 8, 9)]
    assert await names(splits=["test"], item_ids=["part-7", "part-2"]) == ["part-7"]
    assert await names(splits=["nowhere"]) == []


async def test_a_missing_item_answers_its_own_error(stub, parts):
    responses = await read(stub, item_ids=["part-1", "nobody"])
    assert [response.WhichOneof("result") for response in responses] == ["error", "image"]
    assert responses[0].error.code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_metadata_comes_without_pixels(stub, parts):
    request = codec_pb2.ReadItemsRequest(items=types_pb2.ItemFilter(dataset="parts"), metadata_only=True)
    responses = [response async for response in stub.ReadItems(request)]
    assert len(responses) == 10
    assert all(response.WhichOneof("result") is None and response.item.sha256 for response in responses)


async def test_bad_frames_between_good_ones_answer_their_own_errors_in_order(client, stub):
    await client.codec.create_dataset("parts")
    box = types_pb2.Annotation(box=types_pb2.Box(x_min=0, y_min=0, x_max=33, y_max=5), label="a")
    frames = [
        frame("1", "a", grey(1)),
        frame("2", "b", types_pb2.Image(encoded=b"no image")),
        frame("3", "", grey(2)),
        frame("4", "c\n", grey(2)),
        frame("5", "d", grey(3), annotations=[box]),
        frame("6", "e", grey(4), dataset="others"),
        frame("7", "a", grey(1)),
        frame("8", "a", grey(5)),
        frame("9", "f", grey(6)),
        frame("10", "g", types_pb2.Image(item=types_pb2.ItemRef(dataset="parts", item_id="a"))),
    ]
    responses = [response async for response in stub.AppendItems(iter(frames))]
    assert [response.id for response in responses] == [str(n) for n in range(1, 11)]
    codes = [response.error.code if response.WhichOneof("result") == "error" else 0 for response in responses]
    assert codes == [0, 3, 3, 3, 3, 3, 0, 6, 0, 3]
    assert responses[6].response.duplicate
    assert "item.annotations[0].box" in responses[4].error.message
    assert [response.item.item_id for response in await read(stub)] == ["a", "f"]


async def test_appending_to_nothing_answers_not_found(stub):
    responses = [response async for response in stub.AppendItems(iter([frame("1", "a", grey())]))]
    assert [response.error.code for response in responses] == [grpc.StatusCode.NOT_FOUND.value[0]]


async def test_an_item_is_acknowledged_while_the_stream_stays_open(client, stub, address):
    await client.codec.create_dataset("parts")
    call = stub.AppendItems()
    for n in range(3):
        await call.write(frame(str(n), f"i{n}", grey(n)))
        response = await asyncio.wait_for(call.read(), 20)
        assert response.response.item.item_id == f"i{n}"
        durable = await read(stub, item_ids=[f"i{n}"])
        assert durable[0].WhichOneof("result") == "image"
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def test_frames_that_come_together_become_one_version(client, stub):
    before = await client.codec.create_dataset("parts")
    frames = [frame(str(n), f"i{n:03d}", grey(n)) for n in range(100)]
    assert len([response async for response in stub.AppendItems(iter(frames))]) == 100
    after = await client.codec.get_dataset("parts")
    assert after.item_count == 100
    assert after.version - before.version < 30


async def test_an_update_sets_what_its_mask_names(client, parts):
    before = await client.codec.get_item("parts", "part-3")
    after = await client.codec.update_item("parts", "part-3", group="monday", labels=["bent", "good"], etag=before.etag)
    assert (after.group, after.labels, after.split) == ("monday", ("bent", "good"), "train")
    with pytest.raises(mekiki.errors.Conflict):
        await client.codec.update_item("parts", "part-3", group="tuesday", etag=before.etag)
    assert (await client.codec.get_item("parts", "part-3")).group == "monday"


async def test_an_update_without_a_mask_is_refused(stub, parts):
    request = codec_pb2.UpdateItemRequest(dataset="parts", item=codec_pb2.Item(item_id="part-1"))
    code, details = await code_of(stub.UpdateItem(request))
    assert (code, "update_mask" in details) == ("INVALID_ARGUMENT", True)


async def test_annotations_get_identifiers_and_keep_their_boxes(stub, parts):
    box = types_pb2.Box(x_min=1, y_min=2, x_max=30, y_max=40)
    sent = types_pb2.Annotation(box=box, label="head", score=0.5, source="me", needs_review=True)
    item = codec_pb2.Item(item_id="part-1", annotations=[sent])
    request = codec_pb2.UpdateItemRequest(dataset="parts", item=item, update_mask={"paths": ["annotations"]})
    [stored] = (await stub.UpdateItem(request)).item.annotations
    assert stored.annotation_id
    assert stored.state == types_pb2.ANNOTATION_STATE_PROPOSED
    stored.annotation_id, stored.state = "", types_pb2.ANNOTATION_STATE_UNSPECIFIED
    assert stored == sent


async def test_many_updates_at_once_all_take_effect_in_few_versions(client, parts):
    before = await client.codec.get_dataset("parts")
    updates = [client.codec.update_item("parts", f"part-{n % 10}", group=f"g{n}") for n in range(60)]
    assert len(await asyncio.gather(*updates)) == 60
    after = await client.codec.get_dataset("parts")
    assert after.version - before.version < 40
    groups = {(await client.codec.get_item("parts", f"part-{n}")).group for n in range(10)}
    assert len(groups) == 10


async def test_an_unknown_item_is_not_found(client, parts):
    with pytest.raises(mekiki.errors.NotFound):
        await client.codec.get_item("parts", "nobody")


async def test_a_damaged_item_answers_data_loss_and_the_stream_goes_on(stub, parts, tmp_path):
    store = Store.open(f"file://{tmp_path / 'store'}").prefixed("codec")
    for key in store.list("datasets"):
        if key.endswith(".mp4"):
            data = bytearray(store.get(key))
            data[len(data) // 2] ^= 0xFF  # in the middle of a frame
            store.put(key, bytes(data))
    responses = await read(stub)
    failed = [response for response in responses if response.WhichOneof("result") == "error"]
    assert len(responses) == 10
    assert 1 <= len(failed) < 10
    assert all(response.error.code == grpc.StatusCode.DATA_LOSS.value[0] for response in failed)
    assert all(response.item.item_id in response.error.message for response in failed)


async def test_a_data_set_is_encoded_read_prepared_and_matched_by_a_new_image(client, parts):
    operation = await client.codec.encode_dataset("parts", options=mekiki.EncodingOptions(crf=4, gop=4))
    encoded = await operation.result()
    encoding = encoded.encoding
    assert encoding.item_count == 10
    assert list(encoding.unaligned) == ["part-9"]
    [kind] = encoding.categories
    assert kind.mask.shape == (kind.height, kind.width)
    assert (kind.category, kind.item_count) == ("", 10)
    assert "u2netp.onnx" in encoded.background_description
    wanted = mekiki.ItemFilter("parts", form=mekiki.ItemForm.PREPARED)
    items = [item async for item in client.codec.read_items(wanted)]
    assert all(item.pixels.shape == (kind.height, kind.width) for item in items)
    assert [item.alignment.aligned for item in items] == [True] * 9 + [False]
    fresh = await client.codec.prepare_image("parts", parts[7])
    assert np.abs(fresh.pixels.astype(int) - items[7].pixels).mean() < 1.5
    stream = [answer async for answer in client.codec.prepare_images("parts", [parts[2], b"no image", parts[3]])]
    assert [answer.error is None for answer in stream] == [True, False, True]
    [stored] = (await client.codec.get_dataset("parts")).encodings
    assert (stored.encoding_id, stored.stored_bytes) == (encoding.encoding_id, encoding.stored_bytes)


async def test_categories_are_told_read_and_prepared_by_name(client):
    await client.codec.create_dataset("mixed")
    pictures = {"bolt": draw_parts(5), "nut": [np.rot90(picture[:150]).copy() for picture in draw_parts(4, 9)]}
    items = [
        mekiki.NewItem(f"{label}-{n}", picture, labels=[label])
        for label, several in pictures.items()
        for n, picture in enumerate(several)
    ]
    assert [answer.error async for answer in client.codec.append_items("mixed", items)] == [None] * 9
    options = mekiki.EncodingOptions(categories=mekiki.CategoryGrouping.LABEL, transform=mekiki.Transform.SIMILARITY)
    encoding = (await (await client.codec.encode_dataset("mixed", options=options)).result()).encoding
    assert [(kind.category, kind.item_count) for kind in encoding.categories] == [("bolt", 5), ("nut", 4)]
    assert (encoding.options.categories, encoding.options.transform) == (options.categories, options.transform)
    wanted = mekiki.ItemFilter("mixed", form=mekiki.ItemForm.PREPARED, category="nut")
    read = [item async for item in client.codec.read_items(wanted)]
    assert {(item.item.labels[0], item.alignment.category) for item in read} == {("nut", "nut")}
    prepared = await client.codec.prepare_image("mixed", pictures["nut"][0], category="nut")
    assert prepared.alignment.category == "nut"
    with pytest.raises(mekiki.errors.NotFound, match="'washer'"):
        await client.codec.prepare_image("mixed", pictures["nut"][0], category="washer")
    with pytest.raises(mekiki.errors.InvalidArgument, match="must be empty for original pixels"):
        [item async for item in client.codec.read_items(mekiki.ItemFilter("mixed", category="nut"))]


async def test_a_preview_comes_as_a_stream_and_bad_requests_are_refused(client, parts):
    names = [f"part-{n}" for n in range(9)]
    options = mekiki.EncodingOptions(background=mekiki.BackgroundRemoval.CONTRAST, crf=30)
    await (await client.codec.encode_dataset("parts", options=options)).result(60)
    wanted = mekiki.ItemFilter("parts", form=mekiki.ItemForm.PREPARED)
    shapes = {item.item.item_id: item.pixels.shape async for item in client.codec.read_items(wanted)}
    shown = [frame async for frame in client.codec.preview_encoding("parts", names, 40)]
    assert {frame.item_id: frame.pixels.shape for frame in shown} == {name: shapes[name] for name in names}
    for asked, crf, complaint in (([], 30, "item_ids"), (names, 52, "must be 0 to 51 of hevc, is 52")):
        with pytest.raises(mekiki.errors.InvalidArgument, match=complaint):
            [frame async for frame in client.codec.preview_encoding("parts", asked, crf)]


async def test_preparing_before_encoding_says_what_to_do(client, parts):
    with pytest.raises(mekiki.errors.FailedPrecondition, match="EncodeDataset"):
        await client.codec.prepare_image("parts", parts[0])


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        ({"crf": 52}, "INVALID_ARGUMENT", "options.crf: must be 0 to 51, is 52"),
        ({"gop": 0}, "INVALID_ARGUMENT", "options.gop: must be 1 to 250, is 0"),
        ({"background": "BACKGROUND_REMOVAL_NONE"}, "INVALID_ARGUMENT", "options.alignment"),
        ({"background": "BACKGROUND_REMOVAL_REMBG"}, "FAILED_PRECONDITION", "put u2netp.onnx into /nowhere"),
        ({"reference_item_id": "nobody"}, "NOT_FOUND", "'nobody'"),
        ({"frame_side": 20}, "INVALID_ARGUMENT", "options.frame_side: must be 64 to 16384, is 20"),
        ({"transform": 9}, "INVALID_ARGUMENT", "options.transform: must be a known value, is 9"),
        ({"reference_item_id": "part-1", "categories": "CATEGORY_GROUPING_LOOKS"}, "INVALID_ARGUMENT", "is not ONE"),
    ],
)
async def test_encoding_options_are_checked_before_the_work_starts(stub, parts, options, code, complaint):
    request = codec_pb2.EncodeDatasetRequest(dataset="parts", options=codec_pb2.EncodingOptions(**options))
    got, details = await code_of(stub.EncodeDataset(request))
    assert got == code
    assert complaint in details


async def test_an_image_larger_than_a_message_answers_its_own_error(serve):
    from services.codec.__main__ import OPENING

    address = await serve([OPENING], max_message_bytes=1 << 20)
    flat = np.zeros((1200, 1200), np.uint8)
    async with mekiki.AsyncClient(address) as client:
        await client.codec.create_dataset("parts")
        png = cv2.imencode(".png", flat)[1].tobytes()
        items = [mekiki.NewItem("large", png), mekiki.NewItem("small", flat[:30, :30])]
        assert [answer.error async for answer in client.codec.append_items("parts", items)] == [None, None]
        read_back = [item async for item in client.codec.read_items("parts")]
    assert [item.error is None for item in read_back] == [False, True]
    assert "MEKIKI_MAX_MESSAGE_BYTES" in str(read_back[0].error)


async def test_masks_travel_only_when_asked_for(client):
    await client.codec.create_dataset("drawn")
    mask = np.zeros((24, 32), dtype=np.bool_)
    mask[3:7, 5:20] = True
    pixels = np.zeros((24, 32), np.uint8)
    items = [mekiki.NewItem("bad", pixels, mask=mask), mekiki.NewItem("good", pixels)]
    answers = [answer.value.item.has_mask async for answer in client.codec.append_items("drawn", items)]
    assert answers == [True, False]
    for metadata_only in (True, False):
        found = client.codec.read_items("drawn", metadata_only=metadata_only, with_masks=True)
        bad, good = [read async for read in found]
        assert (bad.mask == mask).all()
        assert good.mask is None
        assert (bad.result is None) == metadata_only
    assert [read.mask async for read in client.codec.read_items("drawn")] == [None, None]


def draw_trimap(shape=(24, 32)):
    trimap = np.full(shape, mekiki.Trimap.UNKNOWN, np.uint8)
    trimap[2:5, 3:9], trimap[20:] = mekiki.Trimap.OBJECT, mekiki.Trimap.BACKGROUND
    return trimap


async def read_drawn(client, item_id):
    wanted = mekiki.ItemFilter("drawn", item_ids=[item_id])
    (read,) = [each async for each in client.codec.read_items(wanted, metadata_only=True, with_masks=True)]
    assert (read.mask is not None, read.trimap is not None) == (read.item.has_mask, read.item.has_trimap)
    return read.trimap if read.mask is None else read.mask


async def test_a_mask_and_a_trimap_take_each_others_place_and_are_cleared(client):
    await client.codec.create_dataset("drawn")
    trimap, mask = draw_trimap(), draw_trimap() == mekiki.Trimap.OBJECT
    items = [mekiki.NewItem("a", np.zeros((24, 32), np.uint8), trimap=trimap)]
    (appended,) = [answer.value.item async for answer in client.codec.append_items("drawn", items)]
    assert (appended.has_mask, appended.has_trimap) == (False, True)
    assert (await read_drawn(client, "a") == trimap).all()
    update = client.codec.update_item
    masked = await update("drawn", "a", mask=mask, etag=appended.etag)
    assert (masked.has_mask, masked.has_trimap) == (True, False)
    assert (await read_drawn(client, "a") == mask).all()
    with pytest.raises(mekiki.errors.Conflict):
        await update("drawn", "a", trimap=trimap, etag=appended.etag)
    grouped = await update("drawn", "a", group="monday", etag=masked.etag)
    assert grouped.has_mask, "what is not named stays"
    await update("drawn", "a", trimap=trimap[::-1])
    assert (await read_drawn(client, "a") == trimap[::-1]).all()
    whole = await update("drawn", "a", trimap=np.where(mask, 255, 0))
    assert (whole.has_mask, whole.has_trimap) == (True, False), "a trimap that knows every pixel is a mask"
    cleared = await update("drawn", "a", clear_mask=True)
    assert (cleared.has_mask, cleared.has_trimap, await read_drawn(client, "a")) == (False, False, None)
    assert len({each.etag for each in (appended, masked, grouped, whole, cleared)}) == 5
    with pytest.raises(ValueError, match="give one of"):
        await update("drawn", "a", mask=mask, clear_mask=True)


def make_png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize(
    ("drawn", "complaint"),
    [
        (
            {"trimap": make_png(draw_trimap() + np.uint8(1))},
            "item.trimap.png: must hold the values 0, 128, 255, holds 1",
        ),
        ({"trimap": make_png(np.full((24, 32), 128, np.uint8))}, "item.trimap.png: must know a pixel or more"),
        ({"trimap": make_png(np.zeros((24, 32, 3), np.uint8))}, "item.trimap.png: must have one channel of 8 bits"),
        ({"trimap": make_png(np.zeros((24, 32), np.uint16))}, "item.trimap.png: must have one channel of 8 bits"),
        ({"trimap": make_png(draw_trimap((24, 31)))}, "item.trimap: must have the image's size, 32 x 24, has 31 x 24"),
        ({"trimap": b"none"}, "item.trimap.png: must be one of PNG"),
        (
            {"mask": make_png(np.zeros((25, 32), np.uint8))},
            "item.mask: must have the image's size, 32 x 24, has 32 x 25",
        ),
    ],
)
async def test_a_map_that_does_not_fit_is_refused_and_nothing_changes(stub, client, drawn, complaint):
    await client.codec.create_dataset("drawn")
    pushed = [mekiki.NewItem("a", np.zeros((24, 32), np.uint8), trimap=draw_trimap())]
    (before,) = [answer.value.item async for answer in client.codec.append_items("drawn", pushed)]
    item = codec_pb2.Item(item_id="a", **{name: {"png": data} for name, data in drawn.items()})
    request = codec_pb2.UpdateItemRequest(dataset="drawn", item=item, update_mask={"paths": ["mask"]})
    code, details = await code_of(stub.UpdateItem(request))
    assert (code, complaint in details) == ("INVALID_ARGUMENT", True), details
    assert await client.codec.get_item("drawn", "a") == before


async def test_a_new_item_with_both_a_mask_and_a_trimap_is_refused(stub, client):
    await client.codec.create_dataset("drawn")
    both = {"mask": {"png": make_png(draw_trimap())}, "trimap": {"png": make_png(draw_trimap())}}
    (answer,) = [each async for each in stub.AppendItems(iter([frame("1", "a", grey(), "drawn", **both)]))]
    assert "item.trimap" in answer.error.message


@pytest.mark.parametrize("mask", [encode_mask(np.ones((24, 31), dtype=np.bool_)), types_pb2.Mask(png=b"none")])
async def test_a_mask_that_does_not_fit_is_refused(stub, client, mask):
    await client.codec.create_dataset("drawn")
    (answer,) = [each async for each in stub.AppendItems(iter([frame("1", "a", grey(), "drawn", mask=mask)]))]
    assert "item.mask" in answer.error.message
