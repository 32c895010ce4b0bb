"""The review page's masks as people see, paint and accept them: a real Chromium, a real codec."""

import numpy as np
import pytest
from playwright.async_api import expect
from review_house import DATASET, FOUND, SIZE, draw_mask, reviewing
from review_people import IN_A_BROWSER, sitting

import mekiki
from mekiki import Box, Trimap

pytestmark = IN_A_BROWSER

GREEN, RED, AMBER = (62, 207, 154), (224, 112, 90), (242, 185, 59)
HOSTILE = "<img src=x onerror=window.pwned=1>"


def reviewing_nuts(house, reviewer="ann"):
    return reviewing(house, reviewer, segmenter="nuts")


async def colour(person, x, y):
    """Of the mask's canvas at a pixel of the image; None where it is clear."""
    told = await person.page.evaluate(
        "([x, y]) => [...document.querySelector('.mask').getContext('2d').getImageData(x, y, 1, 1).data]", [x, y]
    )
    return tuple(told[:3]) if told[3] else None


async def until_coloured(person, x, y, wanted):
    await person.until(
        """([x, y, wanted]) => {
            const mask = document.querySelector('.mask');
            if (!mask || mask.hidden || mask.width <= x) return false;
            const [red, green, blue, alpha] = mask.getContext('2d').getImageData(x, y, 1, 1).data;
            return alpha > 0 && Math.hypot(red - wanted[0], green - wanted[1], blue - wanted[2]) < 6;
        }""",
        [x, y, list(wanted)],
    )


async def test_the_mask_that_is_found_is_shown_hidden_and_accepted(house, browser):
    await house.fill({"a": [], "b": []})
    async with reviewing_nuts(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        await until_coloured(ann, 30, 20, AMBER)
        assert await colour(ann, 5, 5) is None
        await expect(ann.page.locator(".masks .answer")).to_contain_text("nut 75 %")
        await ann.press("m", "a")
        await ann.page.wait_for_selector('.news:has-text("Press m first")')
        await expect(ann.page.locator(".mask")).to_be_hidden()
        await ann.press("m", "a")
        await ann.until_shown("b")
        await ann.until_kept()
        await expect(ann.page.locator(".count")).to_contain_text("1 of 2")
        await ann.press("k")
        await until_coloured(ann, 30, 20, GREEN)
        await ann.press("g")
        await ann.page.wait_for_selector('.cell[data-item="a"][data-state="accepted"] .say:has-text("mask")')
    assert np.array_equal(await house.drawn("a"), draw_mask(FOUND))
    assert await house.drawn("b") is None


async def test_the_sheet_begins_with_what_the_segmenter_is_least_sure_of(house, browser):
    await house.fill({name: [] for name in ("a", "b", "c", "d masked")})
    await house.codec.update_item(DATASET, "d masked", mask=draw_mask(FOUND))
    house.saliency.sureness |= {"a": 0.9, "b": 0.4, "c": 0.0, "d masked": 0.1}
    async with reviewing_nuts(house) as url, sitting(browser, url) as ann:
        await ann.page.wait_for_selector('.cell.current[data-item="c"] .say:has-text("nut: not found")')
        await expect(ann.page.locator('.cell[data-item="b"] .say')).to_have_text("nut 40 %")
        boxes = {name: await ann.page.locator(f'.cell[data-item="{name}"]').bounding_box() for name in "abc"}
        assert sorted(boxes, key=lambda name: (boxes[name]["y"], boxes[name]["x"])) == ["c", "b", "a"]
        await ann.press("Enter")
        await ann.until_shown("c")


async def test_strokes_are_kept_as_scribbles_survive_a_reload_and_are_taken_back_one_by_one(house, browser):
    await house.fill({"a": [], "b": []})
    async with reviewing_nuts(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter", "p")
        await ann.drag((5, 10), (15, 10))
        await ann.drag((30, 40), (50, 40), key="Alt")
        await ann.drag((30, 5), (50, 5), button="right")
        await ann.press("x", "]", "]")
        await ann.drag((60, 20), (60, 30))
        await ann.until_kept()
        drawn = await house.drawn("a")
        assert drawn.dtype == np.uint8
        assert (drawn[10, 5:15] == Trimap.OBJECT).all()
        assert (drawn[40, 30:50] == Trimap.BACKGROUND).all()
        assert (drawn[5, 30:50] == Trimap.BACKGROUND).all()
        assert (drawn[21:29, 58:62] == Trimap.BACKGROUND).all(), "the brush is larger"
        assert (drawn == Trimap.UNKNOWN).mean() > 0.8
        await ann.page.reload()
        await ann.until_shown("a")
        await until_coloured(ann, 10, 10, GREEN)
        await until_coloured(ann, 40, 40, RED)
        await until_coloured(ann, 30, 20, AMBER)
        await ann.press("p")
        await ann.drag((5, 30), (15, 30))
        await ann.drag((5, 44), (15, 44))
        await ann.press("u", "Control+z")
        await ann.until_kept()
        assert np.array_equal(await house.drawn("a"), drawn)
        await ann.press("k")  # of which nothing is known yet: it comes first since the reload
        await ann.until_shown("b")
    assert await house.drawn("b") is None


async def test_what_is_accepted_after_strokes_is_what_is_found_with_the_strokes_over_it(house, browser):
    await house.fill({"a": [], "b": []})
    async with reviewing_nuts(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter", "p")
        await until_coloured(ann, 30, 20, AMBER)
        await ann.drag((5, 10), (15, 10))
        await ann.drag((22, 24), (38, 24), key="Alt")
        await ann.until_kept()
        strokes = await house.drawn("a")
        await ann.press("a")
        await ann.until_shown("b")
        await ann.until_kept()
        mask = await house.drawn("a")
        assert mask.dtype == np.bool_
        known = strokes != Trimap.UNKNOWN
        assert np.array_equal(mask, np.where(known, strokes == Trimap.OBJECT, draw_mask(FOUND)))
        await ann.press("k")
        await ann.drag((25, 18), (35, 18), key="Alt")  # a whole mask that is corrected stays whole
        await ann.until_kept()
        corrected = await house.drawn("a")
        assert corrected.dtype == np.bool_
        assert not corrected[18, 25:35].any()
        await ann.press("u", "u")
        await ann.until_kept()
    assert np.array_equal(await house.drawn("a"), strokes)


async def test_what_is_rejected_keeps_no_mask_and_what_is_empty_is_not_accepted(house, browser):
    await house.fill({"a": [], "b": [], "c": []})
    await house.codec.update_item(DATASET, "a", trimap=np.eye(*SIZE[::-1], dtype=np.uint8) * 255 | 128)
    await house.codec.update_item(DATASET, "c", labels=["good"])
    house.saliency.box = Box(0, 0, 0, 0)
    async with reviewing_nuts(house) as url, sitting(browser, url, cells=3) as ann:
        await ann.press("Enter")
        await ann.until_shown("b")
        await ann.page.wait_for_selector('.masks .own:has-text("nothing is found")')
        await ann.press("a")
        await ann.page.wait_for_selector('.news:has-text("nothing to accept")')
        await ann.press("r", "k")
        await ann.until_shown("b")
        await ann.press("n")
        await ann.page.wait_for_selector('.masks .own:has-text("scribbles")')
        await ann.press("r")
        await ann.until_kept()
        await expect(ann.page.locator(".count")).to_contain_text("3 of 3")  # what it does not look for needs nobody
        await ann.press("u")
        await ann.until_kept()
        assert (await house.drawn("a"))[0, 0] == Trimap.OBJECT
        await ann.press("a", "x", "g", "g")
        await expect(ann.page.locator(".sheet")).to_be_visible()
    assert (await house.drawn("b"), await house.drawn("c")) == (None, None)


async def test_scribbles_that_are_not_sent_yet_outlive_the_page(house, browser):
    await house.fill({"a": [], "b": []})
    async with reviewing_nuts(house) as url, sitting(browser, url) as ann:
        await ann.page.route("**/api/decisions", lambda route: route.abort())
        await ann.press("Enter", "p")
        await ann.drag((5, 10), (15, 10))
        await ann.page.wait_for_selector('.sync[data-state="waiting"]')
        await ann.page.reload()
        await until_coloured(ann, 10, 10, GREEN)
        assert await house.drawn("a") is None
        await ann.page.unroute("**/api/decisions")
        await ann.until_kept()
    assert ((await house.drawn("a"))[10, 5:15] == Trimap.OBJECT).all()


@pytest.mark.parametrize("key", ["m", "t"])
async def test_two_people_who_draw_see_their_conflict_and_one_chooses(house, browser, key):
    await house.fill({"a": [], "b": []})
    async with (
        reviewing_nuts(house, "ann") as one,
        reviewing_nuts(house, "ben") as other,
        sitting(browser, one) as ann,
        sitting(browser, other) as ben,
    ):
        await ben.press("Enter", "p")
        await until_coloured(ben, 30, 20, AMBER)
        await ben.page.route("**/api/item?*", lambda route: route.abort())  # ben does not hear of it
        await ann.press("Enter", "p")
        await ann.drag((5, 10), (15, 10))
        await ann.until_kept()
        theirs = await house.drawn("a")
        await ben.drag((5, 40), (15, 40))
        await ben.page.wait_for_selector(".conflicts:visible")
        assert np.array_equal(await house.drawn("a"), theirs), "nothing was overwritten"
        await ben.press("c")
        dialog = ben.page.locator("dialog.conflict")
        for side in (".mine", ".theirs"):
            await expect(dialog.locator(side)).to_contain_text("scribbles")
            await expect(dialog.locator(f"{side} canvas")).to_be_visible()
        await ben.press(key)
        await ben.until_kept()
        await expect(ben.page.locator(".conflicts")).to_be_hidden()
    kept = await house.drawn("a")
    mine, is_mine = kept[40, 10] == Trimap.OBJECT, key == "m"
    assert (mine, np.array_equal(kept, theirs)) == (is_mine, not is_mine)


async def test_an_answer_that_gets_lost_is_no_conflict(house, browser):
    await house.fill({"a": [], "b": []})
    async with reviewing_nuts(house) as url, sitting(browser, url) as ann:
        await ann.lose_answers()
        await ann.press("Enter", "p")
        await ann.drag((5, 10), (15, 10))
        await ann.page.wait_for_selector('.sync[data-state="waiting"]')
        await ann.drag((5, 40), (15, 40))
        await ann.page.unroute("**/api/decisions")
        await ann.until_kept()
        await expect(ann.page.locator(".conflicts")).to_be_hidden()
    drawn = await house.drawn("a")
    assert (drawn[10, 10], drawn[40, 10]) == (Trimap.OBJECT, Trimap.OBJECT)


async def test_a_mask_that_is_there_is_shown_without_a_segmenter_too_and_keys_stay_what_they_were(house, browser):
    await house.fill({"a": [], "b": []})
    await house.codec.update_item(DATASET, "a", mask=draw_mask(FOUND))
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        await until_coloured(ann, 30, 20, GREEN)
        await ann.press("m")
        await ann.page.wait_for_selector(".mask", state="hidden")
        await ann.press("n", "p")
        await ann.until_shown("a")
        assert house.saliency.segmented == []


async def test_labels_and_names_of_segmenters_are_shown_as_text(house, browser):
    await house.fill({HOSTILE: []})
    segment = house.saliency.segment_image

    async def name_hostile(segmenter, image):
        told = await segment(segmenter, image)
        return mekiki.Segmentation(told.segments, mekiki.ModelRef(HOSTILE, 1), *SIZE)

    house.saliency.segment_image = name_hostile
    async with reviewing(house, segmenter=HOSTILE) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        await ann.until("(name) => document.querySelector('.masks .answer')?.textContent.includes(name)", HOSTILE)
        await expect(ann.page.locator(".bar .title")).to_contain_text(HOSTILE)
        assert await ann.page.evaluate("window.pwned") is None
