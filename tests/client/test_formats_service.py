"""Through the codec itself: what is pushed in one format comes out in another, pixel for pixel."""

import asyncio

import numpy as np
import pytest
from typer.testing import CliRunner

import mekiki
from mekiki import AnnotationState, Box
from mekiki.cli.app import app
from mekiki.cli.codes import ExitCode
from mekiki.formats import DatasetFormat, write_dataset
from tests.client.marked import mark, picture, pictures


@pytest.fixture
async def run(serve):
    from services.codec.__main__ import OPENING

    address = await serve([OPENING])

    async def invoke(*arguments):
        def call():
            return CliRunner().invoke(app, list(map(str, arguments)), env={"MEKIKI_ADDRESS": address})

        result = await asyncio.to_thread(call)
        assert result.exit_code == ExitCode.DONE, result.output
        return result

    invoke.address = address
    return invoke


async def list_items(address, dataset):
    async with mekiki.AsyncClient(address) as client:
        return [read async for read in client.codec.read_items(dataset, with_masks=True)]


def boxes(read):
    return [(note.label, note.box, note.state) for note in read.item.annotations]


async def test_a_data_set_goes_through_every_format(run, tmp_path):
    written = [*pictures(masked=True), picture("b w", labels=("good",))]
    write_dataset("datumaro", tmp_path / "first", written, lossless=True)
    await run("push", tmp_path / "first", "first")
    first = {read.item.sha256: read for read in await list_items(run.address, "first")}
    assert len(first) == len(written)
    for form in DatasetFormat:
        await run("export", "first", tmp_path / form, "--format", form, "--masks", "--lossless")
        await run("push", tmp_path / form, form)
        for read in await list_items(run.address, form):
            before = first[read.item.sha256]
            assert boxes(read) == boxes(before), form
            assert before.item.split == read.item.split or (form == "yolo" and read.item.split == "train")
            if form in ("coco", "datumaro", "labelme", "cvat"):
                assert (read.mask is None) == (before.mask is None)
                assert read.mask is None or (read.mask == before.mask).all()


async def test_scribbles_are_no_masks_and_are_not_exported(run, tmp_path):
    write_dataset("datumaro", tmp_path / "in", pictures(masked=True))
    await run("push", tmp_path / "in", "parts")
    before = await list_items(run.address, "parts")
    scribbled = next(read for read in before if read.mask is not None)
    async with mekiki.AsyncClient(run.address) as client:
        trimap = np.full(scribbled.mask.shape, mekiki.Trimap.UNKNOWN, np.uint8)
        trimap[:2], trimap[2:4] = mekiki.Trimap.OBJECT, mekiki.Trimap.BACKGROUND
        await client.codec.update_item("parts", scribbled.item.item_id, trimap=trimap)
    await run("export", "parts", tmp_path / "out", "--format", "coco", "--masks", "--lossless")
    await run("push", tmp_path / "out", "again")
    masked = {read.item.sha256 for read in await list_items(run.address, "again") if read.mask is not None}
    assert masked == {read.item.sha256 for read in before if read.mask is not None} - {scribbled.item.sha256}


async def test_many_are_made_of_few_and_none_of_test(run, tmp_path):
    write_dataset("cvat", tmp_path / "few", pictures(masked=True))
    await run("push", tmp_path / "few", "few")
    await run("augment", "few", "--to", 9, "--into", "many")
    await run("compose", "few", "--to", 2, "--into", "scenes")
    many = await list_items(run.address, "many")
    assert len(many) == 9
    assert {read.item.split for read in many} == {"train"}
    assert not any("test" in read.item.item_id or "val" in read.item.item_id for read in many)
    assert len({read.item.group for read in many}) == 3
    scenes = await list_items(run.address, "scenes")
    assert all(note.state is AnnotationState.ACCEPTED for read in scenes for note in read.item.annotations)
    await run("augment", "few", "--to", 9, "--into", "many")  # once more: all are there already
    assert len(await list_items(run.address, "many")) == 9


async def test_boxes_that_come_later_are_added_and_those_that_are_there_stay(run, tmp_path):
    bare, boxed = tmp_path / "bare", tmp_path / "boxed"
    for folder, lossless in ((bare, True), (boxed, True)):
        marks = (mark("nut", 1, 2, 30, 31),) if folder == boxed else ()
        write_dataset("csv", folder, [picture("a", *marks), picture("b", *marks)], lossless=lossless)
    await run("push", bare, "parts")
    told = await run("push", boxed, "parts")
    assert "2 images that were there already got their boxes" in told.stdout
    reads = await list_items(run.address, "parts")
    assert [boxes(read) for read in reads] == [[("nut", Box(1, 2, 30, 31), AnnotationState.ACCEPTED)]] * 2

    write_dataset(
        "csv", boxed, [picture("a", mark("nut", 5, 5, 9, 9)), picture("b", mark("nut", 1, 2, 30, 31))], lossless=True
    )
    told = await run("push", boxed, "parts")
    assert "1 images that were there already keep the boxes" in told.stderr
    assert [boxes(read) for read in await list_items(run.address, "parts")] == [boxes(read) for read in reads]
