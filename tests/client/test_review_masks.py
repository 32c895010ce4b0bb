"""What the review page's server keeps and shows of pixels: masks, scribbles, and what a segmenter finds."""

import asyncio
import json

import numpy as np
import pytest
from review_house import DATASET, SIZE, draw_mask, propose, reviewing
from test_review import items_of, send, visitor

import mekiki
from mekiki import Trimap
from mekiki.review.drawn import check_drawn, read_drawn, write_drawn
from mekiki.review.messages import read_decisions

WIDTH, HEIGHT = SIZE


def scribble():
    trimap = np.full((HEIGHT, WIDTH), Trimap.UNKNOWN, np.uint8)
    trimap[20:24, 25:30], trimap[2] = Trimap.OBJECT, Trimap.BACKGROUND
    return trimap


def draw(item, drawn):
    return {"kind": "edit", "item_id": item["id"], "etag": item["etag"], "annotations": [], "drawn": drawn}


@pytest.mark.parametrize("seed", range(4))
def test_a_map_comes_back_from_its_text_and_has_but_one(seed):
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 40, 2)
    drawn = random.choice(np.array([0, 128, 255], np.uint8), (height, width), p=[0.1, 0.8, 0.1])
    text = write_drawn(drawn)
    assert np.array_equal(read_drawn(text), drawn)
    assert check_drawn(text) == (width, height)
    assert write_drawn(read_drawn(text)) == text


@pytest.mark.parametrize(
    "text",
    ["64x48", "64x48U1", "64x48X3072", "0x5U0", "4x4U15O", "4x4U16\n", "4x4U0016", "٤x4U16", "99999x99999U1"],
)
def test_what_is_no_map_is_refused_by_its_field(text):
    told = {"kind": "edit", "item_id": "a", "etag": "1", "annotations": [], "drawn": text}
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        read_decisions(json.dumps({"decisions": [told]}).encode())
    assert refused.value.field == "decisions[0].drawn"


async def test_scribbles_become_a_trimap_and_what_knows_all_a_mask(house):
    await house.fill({"a": []})
    async with reviewing(house) as url, visitor(url) as page:
        item = (await items_of(page))["a"]
        assert (item["has_mask"], item["has_trimap"], item["drawn"]) == (False, False, "")
        (first,) = await send(page, draw(item, write_drawn(scribble())))
        assert (first["item"]["has_mask"], first["item"]["has_trimap"]) == (False, True)
        assert np.array_equal(await house.drawn("a"), scribble())
        assert (await items_of(page))["a"]["drawn"] is None, "lists do not carry pixels"
        assert (await page.get("/api/item", params={"id": "a"})).json() == first["item"]
        whole = np.where(draw_mask(mekiki.Box(1, 2, 9, 9)), 255, 0).astype(np.uint8)
        (second,) = await send(page, draw(first["item"], write_drawn(whole)))
        assert (second["item"]["has_mask"], second["item"]["has_trimap"]) == (True, False)
        assert np.array_equal(await house.drawn("a"), whole > 0)
        (boxed,) = await send(page, {key: value for key, value in draw(second["item"], "").items() if key != "drawn"})
        assert boxed["item"]["has_mask"], "what is not told stays"
        (third,) = await send(page, draw(boxed["item"], ""))
        assert (third["status"], await house.drawn("a")) == ("saved", None)


async def test_the_second_of_two_people_is_shown_what_the_first_one_drew(house):
    await house.fill({"a": [], "b": []})
    async with reviewing(house) as url, visitor(url) as page:
        seen = (await items_of(page))["a"]
        mine, theirs = write_drawn(scribble()), write_drawn(scribble()[::-1])
        (first,) = await send(page, draw(seen, theirs))
        (late,) = await send(page, draw(seen, mine))
        assert (late["status"], late["item"]["drawn"]) == ("conflict", theirs)
        assert np.array_equal(await house.drawn("a"), scribble()[::-1])
        (again,) = await send(page, draw(seen, theirs))
        assert again == {**first, "status": "saved"}, "an answer that was lost is asked for again"


async def test_a_map_of_another_size_is_refused_alone(house):
    await house.fill({"a": [], "b": []})
    async with reviewing(house) as url, visitor(url) as page:
        items = await items_of(page)
        bad, good = await send(page, draw(items["a"], "4x4U15O1"), draw(items["b"], write_drawn(scribble())))
    assert (bad["status"], bad["field"], good["status"]) == ("refused", "item.trimap", "saved")


async def test_what_the_segmenter_finds_of_the_items_label_is_told(house):
    await house.fill({"a": []})
    async with reviewing(house) as url, visitor(url) as page:
        refused = await page.get("/api/segments", params={"id": "a"})
        assert (refused.status_code, refused.json()["reason"]) == (409, "NO_SEGMENTER")
    async with reviewing(house, segmenter="nuts") as url, visitor(url) as page:
        review = (await page.get("/api/review")).json()
        assert (review["segmenter"], review["segmented"]) == ("nuts", ["nut"])
        told = (await page.get("/api/segments", params={"id": "a"})).json()
        assert np.array_equal(read_drawn(told.pop("drawn")) == Trimap.OBJECT, draw_mask(house.saliency.box))
        assert told == {"label": "nut", "score": 0.75, "model": "nuts@3"}
        await house.codec.update_item(DATASET, "a", labels=["bolt"])
        told = (await page.get("/api/segments", params={"id": "a"})).json()
        assert (told["drawn"], told["score"]) == (f"{WIDTH}x{HEIGHT}B{WIDTH * HEIGHT}", 0.0)


async def test_items_of_which_nothing_is_known_come_first(house):
    await house.fill({"a masked": [], "b other": [], "c scribbled": [], "d": [propose(0.9)], "e": []})
    await house.codec.update_item(DATASET, "a masked", mask=draw_mask(house.saliency.box))
    await house.codec.update_item(DATASET, "b other", labels=["bolt"])
    await house.codec.update_item(DATASET, "c scribbled", trimap=scribble())
    async with reviewing(house, segmenter="nuts") as url, visitor(url) as page:
        assert list(await items_of(page)) == ["d", "e", "c scribbled", "b other", "a masked"]


async def test_items_of_which_nothing_is_known_are_looked_at_and_what_is_found_is_told(house):
    await house.fill({"a masked": [], "b other": [], "c scribbled": [], "d": [], "e": [], "f gone": []})
    await house.codec.update_item(DATASET, "a masked", mask=draw_mask(house.saliency.box))
    await house.codec.update_item(DATASET, "b other", labels=["bolt"])
    await house.codec.update_item(DATASET, "c scribbled", trimap=scribble())
    house.saliency.sureness |= {"d": 0.5, "e": 0.0, "f gone": None}
    async with reviewing(house, segmenter="nuts") as url, visitor(url) as page:
        for _ in range(100):
            told = (await page.get("/api/verdicts")).json()
            if told["total"] and len(told["verdicts"]) == told["total"]:
                break
            await asyncio.sleep(0.05)
        later = (await page.get("/api/verdicts", params={"since": 2})).json()
    assert told["verdicts"] == [
        {"item_id": "d", "found": 0.5},
        {"item_id": "e", "found": 0.0},
        {"item_id": "f gone", "error": "it is gone"},
    ]
    assert (told["failure"], later["verdicts"]) == ("", told["verdicts"][2:])
    assert set(house.saliency.segmented) == {"d", "e"}, "what is known needs no look"
